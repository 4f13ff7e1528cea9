/**
 * @file train.c
 * @brief The library from C: train a wide softmax network and look at its kernel.
 *
 *   cc -std=c11 train.c $(pkg-config --cflags --libs softntk) -Wl,-rpath,$(pkg-config --variable=libdir softntk) -o train && ./train
 *
 * (The run path finds a library in a prefix of its own; PKG_CONFIG_PATH=PREFIX/lib/pkgconfig finds softntk.pc there.)
 *
 * SPDX-License-Identifier: MIT
 */
#include <softntk/softntk.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  sntk_context *ctx = NULL;
  sntk_data *data = NULL;
  sntk_network *net = NULL;
  sntk_train_result result = {0};
  double *gram = NULL, *eigenvalues = NULL;

  /* A context holds the backend, its threads and the text of the last error. */
  sntk_status status = sntk_context_create(&ctx);
  if (status != SNTK_OK) return sntk_status_exit_code(status);
  const sntk_context_options context_options = SNTK_CONTEXT_OPTIONS_INIT;
  status = sntk_context_open(ctx, &context_options);
  if (status != SNTK_OK) goto cleanup;

  /* 32 points on the sphere in R^8, with random targets; files come in the same way (source, inputs, labels). */
  sntk_data_options data_options = SNTK_DATA_OPTIONS_INIT;
  data_options.samples = 32;
  data_options.dim = 8;
  status = sntk_data_create(ctx, &data_options, &data);
  if (status != SNTK_OK) goto cleanup;

  /* A softmax network of 4096 neurons. The seed alone decides its weights. */
  sntk_network_options network_options = SNTK_NETWORK_OPTIONS_INIT;
  network_options.activation = SNTK_SOFTMAX;
  network_options.width = 4096;
  network_options.dim = data->dim;
  network_options.outputs = data->outputs;
  status = sntk_network_create(ctx, &network_options, &net);
  if (status != SNTK_OK) goto cleanup;

  /* Its neural tangent kernel at the start: one output, so n x n. */
  const int64_t n = data->samples;
  gram = malloc((size_t)(n * n) * sizeof *gram);
  eigenvalues = malloc((size_t)n * sizeof *eigenvalues);
  if (!gram || !eigenvalues) {
    status = SNTK_ERR_MEMORY;
    goto cleanup;
  }
  status = sntk_ntk_gram(ctx, net, data->inputs, n, gram);
  if (status == SNTK_OK) status = sntk_eigenvalues(ctx, gram, n, eigenvalues);
  if (status != SNTK_OK) goto cleanup;

  /* Gradient descent with the step size 1 / lambda_max; the kernel's drift is measured at both ends. */
  sntk_train_options train_options = SNTK_TRAIN_OPTIONS_INIT;
  train_options.steps = 2000;
  train_options.tolerance = 1e-4;
  train_options.kernel_every = train_options.steps;
  status = sntk_train(ctx, net, data->inputs, data->targets, n, &train_options, &result);
  if (status != SNTK_OK) goto cleanup;

  printf("softntk %s on %s\n", sntk_version(), sntk_context_device(ctx));
  printf("lambda_min %.4g, lambda_max %.4g\n", eigenvalues[0], eigenvalues[n - 1]);
  printf("loss %.4g -> %.4g in %lld steps (%s)\n", result.loss_initial, result.loss, (long long)result.steps,
         result.converged ? "converged" : "not converged");
  printf("weights moved at most %.4g, kernel drift %.4g\n", result.weight_movement, result.kernel_drift);

cleanup:
  if (status != SNTK_OK) fprintf(stderr, "train: %s: %s\n", sntk_status_name(status), sntk_context_error(ctx));
  free(gram);
  free(eigenvalues);
  sntk_train_result_clear(&result);
  sntk_network_free(net);
  sntk_data_free(data);
  sntk_context_free(ctx);
  return sntk_status_exit_code(status);
}
