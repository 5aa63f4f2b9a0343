# Every operand of a plan for the simulated device in another buffer shows: some seven hundred, minutes on two cores.
set -euo pipefail
moec model transformer_lm_gpt --decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 --decoder-attention-heads 2 \
  --tokens-per-sample 8 --vocab-size 40 --moe-freq 2 --moe-expert-count 4 --moe-gate-loss-wt 0.01 --dropout 0.1 -o model.onnx
moec compile model.onnx --bind batch=4 --bind seq=8 --set accumulate=2 --set clip_norm=1 --target cuda:simulated -o model.moe
cores=$(nproc) waiting=() status=0
for ((i = 0; i < cores; ++i)); do
  "$MOEC_BUILD/test/wrong_places" model.moe "$cores" "$i" >"places$i" 2>&1 &
  waiting+=($!)
done
for process in "${waiting[@]}"; do wait "$process" || status=1; done
grep -hE '^not noticed|^error|the plan itself| in other places: ' places*
exit $status
