# The path of the README on a tiny model: what comes out trains, goes on after a stop as if there had been none, and means
# the same to `eval` as to `train`.
set -euo pipefail
bible -f 'gen1:1-gen50:26' >text
moec model transformer_lm_gpt --decoder-layers 2 --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-attention-heads 4 \
  --tokens-per-sample 32 --moe-freq 2 --moe-expert-count 4 --moe-gate-loss-wt 0.01 --dropout 0.1 -o model.onnx
cat >recipe.yaml <<'END'
optimizer: {name: adamw, lr: 1.0e-2}
clip_norm: 1.0
END
moec compile model.onnx --recipe recipe.yaml --bind batch=8 --bind seq=32 -o model.moe

train() { moerun train model.moe --data text --valid-split 0.05 --log-format json "$@"; }
# The value of KEY in the last JSON line that has it.
value() { sed -nE "s/.*\"$1\":([-+.0-9e]+).*/\1/p" "$2" | tail -n 1; }

train --save-dir whole --max-update 60 >whole.log
bits=$(value valid_bits_per_byte whole.log)
echo "held out: $bits bits per byte"
# A table of single bytes needs 4.5 bits; untrained, the model needs 8.
awk "BEGIN { exit !($bits < 4.4) }"

train --save-dir parts --max-update 25 >parts.log
train --save-dir parts --max-update 60 --resume >>parts.log
cmp whole/*60.safetensors parts/*60.safetensors

moerun eval model.moe --data text --valid-split 0.05 --save-dir whole --log-format json >eval.log
grep -F "$bits" eval.log
