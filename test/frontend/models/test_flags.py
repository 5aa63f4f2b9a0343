"""Bad command lines and places: one clear message, the right exit code, nothing lost."""

import os
import resource
import signal
import subprocess

import preset

LM = ["model", "transformer_lm_gpt"]


class FlagsTest(preset.TestCase):
    def fails(self, code, args, *parts):
        done = preset.moec(*args)
        self.assertEqual(done.returncode, code, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(os.listdir(self.folder), [])
        return done.stderr

    def test_unknown_names(self):
        self.fails(2, [*LM, "--decoder-layer", -1.0, "-o", self.path], "'--decoder-layer'", "--decoder-layers")
        self.fails(2, [*LM, "--moe-frq=2", "-o", self.path], "'--moe-frq'", "--moe-freq?")
        self.fails(2, ["model", "transformer_lm"], "'transformer_lm'", "transformer_lm_gpt")
        self.fails(2, ["modle"], "'modle'", "model")
        self.fails(2, [], "usage:")
        self.fails(2, ["model"], "usage:", "transformer_lm_gpt")

    def test_usage_errors_are_reported_together(self):
        text = self.fails(
            2,
            [
                *LM,
                "--droput",
                0.5,
                "--moe-freq",
                "two",
                "--dropout=x",
                "--use-moe-pad-mask=1",
                "stray",
                "--moe-expert-count",
                "3.5",
                "--pad-id",
            ],
            "--dropout?",
            "--moe-freq needs a whole number, not 'two'",
            "--dropout needs a number, not 'x'",
            "--use-moe-pad-mask takes no value",
            "'stray' belongs to no flag",
            "--moe-expert-count needs a whole number",
            "--pad-id needs a value",
            "add -o",
        )
        self.assertEqual(text.count("error:"), 8)
        self.fails(2, [*LM, "--dropout", "nan", "-o", self.path], "--dropout needs a number")

    def test_invalid_combinations_are_reported_together(self):
        text = self.fails(
            1,
            [
                *LM,
                "--decoder-embed-dim",
                30,
                "--decoder-attention-heads",
                4,
                "--moe-freq",
                2,
                "--dropout",
                1.0,
                "--moe-second-expert-policy",
                "some",
                "--pad-id",
                260,
                "--tokens-per-sample",
                64,
                "--max-target-positions",
                32,
                "--opset",
                19,
                "--routing-groups",
                0,
                "-o",
                self.path,
            ],
            "--decoder-embed-dim 30 is not divisible by --decoder-attention-heads 4",
            "--moe-freq 2 makes layers without experts",
            "--dropout must lie in [0, 1)",
            "--moe-second-expert-policy 'some' is unknown",
            "sampling, random, all",
            "--pad-id 260",
            "--max-target-positions 32 is below --tokens-per-sample 64",
            "--opset 19",
            "--routing-groups is 0, the least is 1",
        )
        self.assertEqual(text.count("error:"), 8)
        self.fails(
            1, [*LM, "--decoder-embed-dim", 9, "--decoder-attention-heads", 3, "-o", self.path], "--decoder-learned-pos"
        )
        self.fails(1, [*LM, "--vocab-size", 10**15, "-o", self.path], "1e15 weights")

    def test_the_last_of_a_repeated_flag_wins(self):
        model = preset.write(self.path, *preset.TINY, "--decoder-layers=5", "--decoder-layers", 1)
        self.assertEqual(sum(n.op_type == "Attention" for n in model.graph.node), 1)

    def test_experts_without_effect_are_a_warning(self):
        done = preset.moec(*LM, *preset.TINY, "--moe-expert-count", 4, "-o", self.path)
        self.assertEqual(done.returncode, 0)
        self.assertIn("warning: no layer has experts", done.stderr)

    def test_help_and_version(self):
        for args in (["--help"], ["--version"], ["model", "--help"], [*LM, "--help"]):
            done = preset.moec(*args)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("--moe-eval-capacity-token-fraction X", done.stdout)
        self.assertRegex(preset.moec("--version").stdout, r"^moec \d+\.\d+\.\d+\n$")

    def test_output_that_cannot_be_written(self):
        self.fails(
            1,
            [*LM, *preset.TINY, "-o", self.folder / "missing" / "m.onnx"],
            "cannot write",
            "missing/m.onnx",
            "No such file",
        )
        self.fails(1, [*LM, *preset.TINY, "-o", self.folder], "cannot write", "directory")
        self.assertFalse(os.path.exists(f"{self.folder}.data"))
        self.fails(1, [*LM, *preset.TINY, "-o", f"{self.folder}/"], "cannot write", "directory")
        self.fails(1, [*LM, *preset.TINY, "-o", "/proc/m.onnx"], "cannot write", "/proc/m.onnx")

    def test_a_failed_write_keeps_the_previous_model(self):
        preset.write(self.path, *preset.TINY)
        before = {name: (self.folder / name).read_bytes() for name in sorted(os.listdir(self.folder))}
        self.assertEqual(list(before), ["model.onnx", "model.onnx.data"])

        def small_files_only():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

        done = subprocess.run(
            [preset.MOEC, *LM, *preset.TINY, "--decoder-layers", "3", "-o", self.path],
            capture_output=True,
            text=True,
            preexec_fn=small_files_only,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write", done.stderr)
        self.assertIn("File too large", done.stderr)
        self.assertEqual({name: (self.folder / name).read_bytes() for name in sorted(os.listdir(self.folder))}, before)


if __name__ == "__main__":
    preset.main()
