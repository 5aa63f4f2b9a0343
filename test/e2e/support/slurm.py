"""A SLURM of one node that a test starts and ends: daemons, key, ports and all state are its own, in one folder."""
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue", "srun")
CONFIGURATION = """\
ClusterName=moec
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MailProg=/bin/true
MinJobAge=3600
MessageTimeout=60
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def require():
    """Ends the script if SLURM is missing: as passed where nobody may install it, else as failed."""
    os.environ["PATH"] += ":/usr/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        may = os.geteuid() == 0 or shutil.which("sudo")
        print(f"{'FAIL' if may else 'skipped:'} {', '.join(missing)} not installed; tools/setup installs munge, slurmctld, slurmd and slurm-client")
        sys.exit(1 if may else 0)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """`with Cluster(folder):` daemons run; whoever runs SLURM's programs within finds them by SLURM_CONF."""

    def __init__(self, folder):
        self.folder, self.daemons = pathlib.Path(folder).resolve(), []

    def start(self, *words):
        with open(self.folder / f"{words[0]}.out", "w") as log:
            self.daemons.append(subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder))

    def wait(self, what, condition, seconds=240):
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                for log in sorted(self.folder.glob("*.out")):
                    print(f"{log.name}:\n{log.read_text()[-2000:]}")
                raise TimeoutError(f"{what}: not within {seconds} s")
            time.sleep(0.2)

    def __enter__(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key, sock = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        controller, node = free_ports(2)
        conf = self.folder / "slurm.conf"
        conf.write_text(CONFIGURATION.format(controller=controller, node=node, user=getpass.getuser(), folder=self.folder))
        os.environ["SLURM_CONF"] = str(conf)
        try:
            # --force: the folder of a test is closed to others, which munged is wary of.
            self.start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}",
                       f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.out",
                       f"--seed-file={self.folder}/munge.seed")  # fmt: skip
            self.wait("munged", sock.exists)
            self.start("slurmctld", "-D", "-i")
            self.start("slurmd", "-D", "-N", "localhost")
            self.wait("an idle node", lambda: "State=IDLE" in (self.ask("scontrol", "show", "node") or ""))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        for job in (self.ask("squeue", "--noheader", "--format=%i") or "").split():
            self.ask("scancel", "--signal=KILL", "--full", job)
        try:
            self.wait("an empty queue", lambda: self.ask("squeue", "--noheader") == "", 60)
        finally:
            self.stop()

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *words):
        """Output of a program; nothing if it fails, as all may that get no answer in time."""
        done = subprocess.run(words, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def submit(self, name, command):
        """Submits a batch job of two tasks; its number."""
        pathlib.Path(f"{name}.sh").write_text(f"#!/bin/bash\n#SBATCH --ntasks=2\n{command}\n")
        done = subprocess.run(["sbatch", "--parsable", f"--output={name}.stdout", f"--error={name}.stderr", f"{name}.sh"],
                              capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout.strip()

    def job(self, number):
        """What `scontrol show job` says: {key: value}; empty without an answer."""
        pairs = (word.partition("=") for word in (self.ask("scontrol", "show", "job", number) or "").split())
        return {key: value for key, _, value in pairs}

    def finish(self, number, seconds=240):
        """Waits for the end of a job; as `job`."""
        last = {}

        def has_ended():
            last.update(self.job(number))
            return last.get("JobState", "RUNNING") not in ("PENDING", "RUNNING", "COMPLETING")

        self.wait(f"the end of job {number}", has_ended, seconds)
        return last
