// Seven updates by each optimizer and schedule, run by the interpreter and compared with inputs/update.py. What a wrong
// line would do is said there where it is; in short, every term of every formula changes the last parameters, because
// the gradient is another one in each update and `eps` is as large as the moments.

// DEFINE: %{options} =
// DEFINE: %{oracle} = %python %S/inputs/update.py
// DEFINE: %{micro} = micro_step,update
// DEFINE: %{calls} = %{micro},%{micro},%{micro},%{micro},%{micro},%{micro},%{micro}
// DEFINE: %{check} = %{oracle} emit %{options} | moe-opt --insert-update \
// DEFINE:   | moe-opt --interpret=%{calls} --states=layers,metric,sum,control --float64 | %{oracle} check %{options}

// Optimizers.
// REDEFINE: %{options} = optimizer=sgd
// RUN: %{check}
// REDEFINE: %{options} = optimizer=sgd momentum=0.9 weight_decay=0.05
// RUN: %{check}
// REDEFINE: %{options} = optimizer=adam weight_decay=0.05
// RUN: %{check}
// REDEFINE: %{options} = optimizer=adamw weight_decay=0.05
// RUN: %{check}
// REDEFINE: %{options} = optimizer=fairseq_adam weight_decay=0.05
// RUN: %{check}

// Schedules: the first updates warm up, the last ones come after the total.
// REDEFINE: %{options} = schedule=constant warmup_updates=3
// RUN: %{check}
// REDEFINE: %{options} = schedule=fixed warmup_updates=3
// RUN: %{check}
// REDEFINE: %{options} = schedule=inverse_sqrt warmup_updates=3
// RUN: %{check}
// REDEFINE: %{options} = schedule=polynomial_decay warmup_updates=2 total_updates=5 end_lr=0.01
// RUN: %{check}
// REDEFINE: %{options} = schedule=polynomial_decay total_updates=5 power=2.0
// RUN: %{check}
// REDEFINE: %{options} = schedule=cosine warmup_updates=2 total_updates=5 end_lr=0.01
// RUN: %{check}
// Two updates of warm-up, one at the full rate, three of decay, one after them.
// REDEFINE: %{options} = schedule=wsd warmup_updates=2 total_updates=6 decay_updates=3 end_lr=0.01
// RUN: %{check}
// REDEFINE: %{options} = schedule=wsd warmup_updates=2 total_updates=6 decay_updates=3 decay=cosine end_lr=0.02
// RUN: %{check}
// REDEFINE: %{options} = schedule=wsd total_updates=6 decay_updates=4 decay=1-sqrt end_lr=0.01
// RUN: %{check}

// Clipping: the first norms are below the limit, the later ones above.
// REDEFINE: %{options} = optimizer=fairseq_adam clip_norm=0.9
// RUN: %{check}
// REDEFINE: %{options} = optimizer=sgd clip_norm=0.9
// RUN: %{check}

// An infinite gradient changes nothing but the metrics: neither parameters nor moments nor the bias corrections nor the
// number of updates.
// REDEFINE: %{options} = optimizer=adamw poison=2 weight_decay=0.05 schedule=fixed warmup_updates=4
// RUN: %{check}
// REDEFINE: %{options} = optimizer=sgd momentum=0.9 poison=6 clip_norm=0.5
// RUN: %{check}

// Several micro-steps per update: sums of gradients are zeroed, metrics averaged.
// REDEFINE: %{micro} = micro_step,micro_step,update
// REDEFINE: %{options} = optimizer=fairseq_adam accumulate=2
// RUN: %{check}
// REDEFINE: %{options} = optimizer=sgd accumulate=2 poison=3
// RUN: %{check}
