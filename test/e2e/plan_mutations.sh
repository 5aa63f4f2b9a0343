# 200 mutants of a compiled plan with experts, dropout and two micro-batches, and 100 each of one for 2 x 2 ranks and one
# for 4 x 2, whose collectives are in a lane of their own: rejected, or harmless.
set -euo pipefail
moec model transformer_lm_gpt --decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 --decoder-attention-heads 2 \
  --tokens-per-sample 8 --vocab-size 40 --moe-freq 2 --moe-expert-count 4 --moe-gate-loss-wt 0.01 --dropout 0.1 -o model.onnx
compile() {
  moec compile model.onnx --bind batch=4 --bind seq=8 --set accumulate=2 --set clip_norm=1 --threads 1 -o model.moe "$@"
}
compile
"$MOEC_BUILD/test/plan_mutations" model.moe "${MOEC_MUTATIONS:-200}"
compile --set routing_groups=2 --ranks 4 --expert-parallel 2 --fsdp full
"$MOEC_BUILD/test/plan_mutations" model.moe "${MOEC_MUTATIONS:-100}"
compile --bind batch=8 --set routing_groups=2 --ranks 8 --expert-parallel 2 --fsdp optimizer
"$MOEC_BUILD/test/plan_mutations" model.moe "${MOEC_MUTATIONS:-100}"
