#!/usr/bin/env bats
# What comes from files and options is shown on the terminal, never obeyed. SPDX-License-Identifier: MIT
load helper

ESC=$'\033' BEL=$'\a' DEL=$'\177' C1=$'\302\233' RAW=$'\233' RLO=$'\342\200\256' LRI=$'\342\201\246' CUT=$'\342\200'
NASTY="a${ESC}[2Jb${BEL}c${DEL}d${C1}e${RAW}f${RLO}g${LRI}h${CUT}i"
SHOWN='a\\x1b\[2Jb\\x07c\\x7fd\\xc2\\x9be\\x9bf\\xe2\\x80\\xaeg\\xe2\\x81\\xa6h\\xe2\\x80i'

# No byte of a file acts on a terminal: printable ASCII, line feeds and valid UTF-8 outside the controls alone.
harmless() { # FILE...
  "$PYTHON" - "$@" <<'PY'
import sys
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    text = data.decode("utf-8")  # an exception where it is not
    bad = [hex(ord(c)) for c in text if c != "\n" and (ord(c) < 0x20 or 0x7f <= ord(c) < 0xa0 or
                                                       0x202a <= ord(c) <= 0x202e or 0x2066 <= ord(c) <= 0x2069)]
    assert not bad, (name, bad, data)
PY
}

@test "option values, commands and file names" {
  local words
  for words in "$NASTY" "--$NASTY" "--memory-limit=$NASTY" "--shard=$NASTY" "--device=$NASTY" "--profile=$NASTY" \
    "--set=$NASTY" "--set=$NASTY=1" "--set=name=$NASTY" "--backend=$NASTY" "--seed=$NASTY"; do
    expect 2 train "$words" c.yaml
    one_line 'error'
    harmless out err
  done
  expect 2 "$NASTY"
  one_line "$SHOWN"
  harmless out err
  expect 2 train "$NASTY.yaml"
  one_line 'cannot be|No such file'
  harmless out err
  OMP_NUM_THREADS=1$NASTY softntk info
  harmless out
  tail -1 err >last
  harmless last
  SOFTNTK_ISA=$NASTY expect 2 info
  one_line "$SHOWN"
  harmless out err
}

@test "what stands in a configuration and in data files" {
  write_tiny c.yaml
  printf 'data: {source: csv, inputs: "x\\e[31m\\u009b\\u202ey.csv"}\n' >>c.yaml
  sed -i '3d' c.yaml
  expect 2 train c.yaml
  one_line '\\x1b\[31m\\xc2\\x9b\\xe2\\x80\\xaey\.csv'
  harmless out err
  mkdir "d$RAW$ESC"
  write_tiny "d$RAW$ESC/c$RLO.yaml"
  expect 2 train "d$RAW$ESC/c$RLO.yaml" --set network.width=x
  harmless out err
  printf '1,2\n3,%s\n' "$NASTY" >x.csv
  expect 2 train --set network.activation=relu --set network.width=4 --set data.source=csv --set data.inputs=x.csv
  one_line 'x\.csv'
  harmless out err
  for key in "$NASTY" "network.$NASTY"; do
    printf '"%s": 1\n' "$key" >bad.yaml
    expect 2 train bad.yaml
    harmless out err
  done
}

@test "the folder of a run, and its notices" {
  write_tiny c.yaml
  expect 0 sweep c.yaml --set 'grid.seed=[1, 2]' --out "o$ESC$RLO" --quiet
  expect 2 sweep c.yaml --set 'grid.seed=[1, 2]' --out "o$ESC$RLO"
  one_line 'o\\x1b\\xe2\\x80\\xae: a run is there already'
  harmless out err
  printf '{"kind": "train' >>"o$ESC$RLO/points.jsonl"
  expect 0 sweep c.yaml --set 'grid.seed=[1, 2]' --out "o$ESC$RLO" --resume
  has err 'softntk: note: '
  harmless out err
}

@test "ids and errors of recorded points, in tables" {
  write_tiny c.yaml
  expect 0 sweep c.yaml --set 'grid.seed=[1, 2]' --quiet --out o
  "$PYTHON" - <<'PY'
import json, zlib
nasty = "\x1b[2J\x07\x7f\x9b\u202e\u2066"
lines = []
for i, line in enumerate(open("o/points.jsonl")):
    point = json.loads(line)
    point.pop("crc32", None)
    if i == 0:
        point["status"] = "failed"
        point["error"] = "no" + nasty
        point["activation"] = "softmax" + nasty
        point["id"] += ",name=\u202e"
    body = json.dumps(point, ensure_ascii=False)[:-1]
    lines.append('%s,"crc32":"%08x"}' % (body, zlib.crc32(body.encode())))
open("o/points.jsonl", "w").write("\n".join(lines) + "\n")
PY
  expect 0 sweep c.yaml --set 'grid.seed=[1, 2]' --out o --resume
  harmless out err
  has out 'failed: softmax\\x1b\[2J\\x07\\x7f\\xc2\\x9b' '^softmax\\x1b'
}

@test "text of other alphabets stays, in messages and in tables" {
  mkdir 'données'
  write_tiny 'données/c.yaml'
  expect 0 train 'données/c.yaml' --quiet --out 'новый/日本'
  expect 2 train 'données/c.yaml' --out 'новый/日本'
  one_line 'новый/日本: a run is there already'
  expect 2 train 'données/c.yaml' --set network.width=é
  one_line 'é'
}
