# 200 mutants of a compiled plan with experts, dropout and two micro-batches: rejected, or harmless.
set -euo pipefail
moec model transformer_lm_gpt --decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 32 --decoder-attention-heads 2 \
  --tokens-per-sample 8 --vocab-size 40 --moe-freq 2 --moe-expert-count 4 --moe-gate-loss-wt 0.01 --dropout 0.1 -o model.onnx
moec compile model.onnx --bind batch=4 --bind seq=8 --set accumulate=2 --set clip_norm=1 --threads 1 -o model.moe
"$MOEC_BUILD/test/plan_mutations" model.moe "${MOEC_MUTATIONS:-200}"
