#!/usr/bin/env bats
# Data files that could go in wrong in silence: exit 2 with the line of the configuration, the file and the cure.
# SPDX-License-Identifier: MIT
load helper

# source, file, exit code, patterns of the message; more keys of data in MORE.
reads() {
  printf 'network: {activation: softmax, width: 16}\ndata: {source: %s, inputs: "%s"%s}\ntrain: {steps: 2, tolerance: 0}\n' "$1" "$2" \
    "${MORE:+, $MORE}" >c.yaml
  rm -rf run
  expect "$3" train c.yaml --json --out run
  local code=$3
  shift 3
  if [ "$code" -ne 0 ]; then
    one_line "c\.yaml:2:[0-9]*: data\." "$@"
    empty out
    absent run
  fi
}

samples() { equal samples "$(records get out samples)" "$1"; }

@test "a first line that could be a header or a sample: the configuration says which" {
  printf '0,1\n1,0.5\n0.25,-2\n3,4\n' >a.csv
  reads csv a.csv 2 'a\.csv:1: .*header: yes.*header: no'
  MORE='header: yes' reads csv a.csv 0
  samples 3
  MORE='header: no' reads csv a.csv 0
  samples 4
  for line in NA,NA N/A,n/a NULL,NULL None,None '?,?' -,- nan,x '#N/A,#N/A' 1.2.3,4.5.6 1,NA true,false a,a; do
    printf '%s\n1,0.5\n0.25,-2\n' "$line" >a.csv
    reads csv a.csv 2 'a\.csv:1: .*header: yes'
  done
  printf 'x,y\n1,0.5\n0.25,-2\n' >a.csv
  reads csv a.csv 0
  samples 2
}

@test "labels that begin with 0 are labels" {
  printf '1,2\n3,4\n5,6\n' >a.csv
  printf '0\n1\n1\n' >labels.csv
  MORE='labels: labels.csv' reads csv a.csv 0
  samples 3
  printf '0\n0\n1\n1\n' >labels.csv # a header 0 above them
  MORE='labels: labels.csv' reads csv a.csv 2 'labels\.csv has 4 rows of labels, but a\.csv has 3'
}

@test "gzip: every member, or none" {
  printf '1,2\n3,4\n' | gzip -n >a.csv.gz
  cp a.csv.gz first.gz
  printf '5,6\n7,8\n' | gzip -n >>a.csv.gz
  reads csv a.csv.gz 0
  samples 4
  head -c 512 /dev/zero >>a.csv.gz
  reads csv a.csv.gz 0
  samples 4
  { cat first.gz; printf 'rest'; } >b.csv.gz
  reads csv b.csv.gz 2 'b\.csv\.gz: the gzip file is damaged: behind its member 1'
  { cat first.gz; head -c 15 first.gz; } >c.csv.gz
  reads csv c.csv.gz 2 'c\.csv\.gz: the gzip file ends in the middle'
}

@test "a header by Python 2, and files of another format" {
  "$PYTHON" - <<'PY'
import struct
text = "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 2L), }"
text += " " * (63 - (10 + len(text)) % 64) + "\n"
with open("long.npy", "wb") as file:
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + struct.pack("<6d", 1, 2, 3, 4, 5, 7))
with open("utf16.csv", "wb") as file:
    file.write("1,2\n3,4\n".encode("utf-16"))
PY
  reads npy long.npy 0
  samples 3
  reads csv utf16.csv 2 'UTF-16; .*iconv -f UTF-16 -t UTF-8'
  printf 'BZh91AY&SY\001' >a.csv.bz2
  reads csv a.csv.bz2 2 'bzip2; .*bunzip2'
  reads npy utf16.csv 2 'not an NPY file: it is text in UTF-16'
  reads hdf5 utf16.csv:/x 2 'not an HDF5 file: it is text in UTF-16'
  printf '1,2\n' >a.txt
  reads idx a.txt 2 'not an IDX file: it is text; source: csv'
}

@test "HDF5: a group, a file that is cut, and what only such files may be given" {
  printf 'network: {activation: softmax, width: 16}\ndata: {source: sphere, samples: 6, dim: 3}\ntrain: {steps: 2, tolerance: 0}\nsave: {weights: true}\n' >w.yaml
  expect 0 train w.yaml --json --out made
  reads hdf5 made/run.h5:/weights 0
  samples 3
  MORE='allow_external: true' reads hdf5 made/run.h5:/weights 0
  reads hdf5 made/run.h5:/history 2 '/history is a group.*/history/loss \(3\)'
  reads hdf5 made/run.h5:/history/lost 2 'no dataset /history/lost.*/history/loss'
  head -c "$(($(wc -c <made/run.h5) - 8))" made/run.h5 >cut.h5
  reads hdf5 cut.h5:/weights 2 'cut\.h5:/weights: .*truncated'
  printf '1,2\n' >a.csv
  MORE='allow_external: true' reads csv a.csv 2 'allow_external: source csv refers to no other files'
}
