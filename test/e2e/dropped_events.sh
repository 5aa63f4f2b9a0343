# On the simulated device each event between two lanes of a compiled plan is needed.
set -euo pipefail
[[ -e $MOEC_BUILD/test/dropped_events ]] || exit 0 # the build has no simulated device
moec model transformer_lm_gpt --decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 --decoder-attention-heads 2 \
  --tokens-per-sample 8 --vocab-size 40 --moe-freq 2 --moe-expert-count 4 --moe-gate-loss-wt 0.01 --dropout 0.1 -o model.onnx
moec compile model.onnx --bind batch=4 --bind seq=8 --set accumulate=2 --set clip_norm=1 --target cuda:simulated -o model.moe
"$MOEC_BUILD/test/dropped_events" model.moe
