"""The edge of type "directory": files from all kinds of writers become messages, once, whatever happens meanwhile."""

import concurrent.futures
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness.control import command
from harness.machine import IS_ROOT, give, wait_until
from harness.pickup import NAME, Pickup, mail
from harness.slimtad import CONFIGURATION, run_slimtad

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="files of several users take root")

# Users that every system has, who are nobody's logins: daemon and mail.
DAEMON, MAIL = 1, 8
KILLS = 5


@pytest.fixture
def pickup(place, make_slimtad):
    return Pickup(place, make_slimtad, {"owner_login": False}).start()


@pytest.fixture
def owned(place, make_slimtad):
    """Where the owner of a file is its login."""
    return Pickup(place, make_slimtad).start()


# Writers


def test_moved_and_linked_and_copied(pickup):
    """mv takes effect at once, so does ln of a temporary file; what cp writes has to be still."""
    pickup.drop("moved.eml", mail("moved"))
    assert pickup.delivered(1)[0]["subject"] == "moved"
    path = pickup.write("linked", mail("linked"))
    os.link(path, pickup.folder / "linked")
    assert len(pickup.delivered(2)) == 2
    path.unlink()
    shutil.copy(pickup.write("copied", mail("copied")), pickup.folder / "copied")
    assert {message["subject"] for message in pickup.delivered(3)} == {"moved", "linked", "copied"}
    pickup.wait_until_empty()


def test_a_mailbox_of_python(pickup):
    """mailbox.Maildir writes to tmp and renames: its files are taken where its `new` is our folder."""
    script = (
        "import mailbox, os, sys\n"
        "box = mailbox.Maildir(sys.argv[1], create=True)\n"
        "os.rmdir(sys.argv[1] + '/new'); os.symlink(sys.argv[2], sys.argv[1] + '/new')\n"
        "os.umask(0o022)\n"
        "key = box.add(mailbox.MaildirMessage(open(sys.argv[3], 'rb')))\n")
    path = pickup.write("message", mail("from python"))
    subprocess.run(["python3", "-c", script, pickup.outside / "box", pickup.folder, path], check=True)
    for found in pickup.folder.iterdir():
        if found.is_file():
            found.chmod(0o644)
    assert pickup.delivered(1)[0]["subject"] == "from python"


def test_what_is_never_a_message(pickup):
    """Names of what is not ready, links, FIFOs, folders: nothing of that is touched."""
    names = [".hidden", "a.tmp", "a.TMP", "a.part", "a.lock", "a.bad", "a.reason"]
    for name in names:
        pickup.write(name, mail(name), pickup.folder)
    os.symlink(pickup.write("target", mail("link")), pickup.folder / "link")
    os.mkfifo(pickup.folder / "fifo")
    (pickup.folder / "folder").mkdir()
    pickup.drop("last", mail("last"))
    time.sleep(6.5)
    assert pickup.delivered(1)[0]["subject"] == "last"
    assert set(names) | {"link", "fifo", "folder"} <= set(os.listdir(pickup.folder))
    # Renamed to what it is, it is one.
    os.rename(pickup.folder / "a.tmp", pickup.folder / "a")
    assert len(pickup.delivered(2)) == 2


# Owners


def test_the_owner_is_the_login(owned):
    """A user sends as itself, root as anybody; whoever sends as another is refused; rules see the login."""
    owned.drop("own", "X-Envelope-Sender: daemon+list@mail.slimtad.test\nX-Envelope-Recipient: a@one.test\n"
               + mail("own"), owner=DAEMON)
    owned.drop("header", mail("header"), owner=MAIL)
    owned.drop("root", "X-Envelope-Sender: any@where.test\nX-Envelope-Recipient: a@one.test\n" + mail("root"))
    senders = {message["subject"]: message["return-path"] for message in owned.delivered(3)}
    assert senders == {
        "own": "<daemon+list@mail.slimtad.test>", "header": "<mail@mail.slimtad.test>", "root": "<any@where.test>"}
    accepted = owned.slimtad.wait_for_events(edge=NAME, login="daemon")
    assert accepted[0]["client"] == "local"
    forged = "X-Envelope-Sender: root@mail.slimtad.test\nX-Envelope-Recipient: a@one.test\n" + mail("forged")
    owned.drop("forged", forged, owner=DAEMON)
    assert "553 5.7.1" in owned.failed("forged")
    owned.drop("nameless", mail("nameless"), owner=54321)
    assert "54321" in owned.failed("nameless")


def test_a_link_to_the_file_of_another(owned):
    """With owners as logins a file with a second name waits until that is gone: it could be somebody else's."""
    path = owned.write("linked", mail("linked"), owner=DAEMON)
    os.link(path, owned.folder / "linked")
    time.sleep(1.5)
    assert owned.left() == ["linked"]
    path.unlink()
    assert owned.delivered(1)[0]["return-path"] == "<daemon@mail.slimtad.test>"


def test_what_slimtad_may_not_read(owned):
    """It is put aside, and the reason says what is missing."""
    owned.drop("secret", mail("secret"), owner=DAEMON, mode=0o600)
    assert "Permission denied" in owned.failed("secret")


def test_rules_apply(place, make_slimtad):
    """A rule refuses by login; a 4xx leaves the file in `taken`, and it is tried again."""
    rules = [
        {"name": "no-daemon", "at": "mail", "login": "daemon", "reply": "550 5.7.1 not you"},
        {"name": "later", "at": "rcpt", "recipient": "later@one.test", "reply": "450 4.7.1 not now"},
    ]
    pickup = Pickup(place, make_slimtad, rule=rules).start()
    pickup.drop("refused", mail("refused"), owner=DAEMON)
    assert "reply: 550 5.7.1 not you" in pickup.failed("refused")
    pickup.drop("later", mail("later", to="later@one.test"), owner=MAIL)
    pickup.slimtad.wait_for_log("file is tried again later")
    assert [name[33:] for name in pickup.left()] == ["later"]
    pickup.slimtad.change(rule=rules[:1])
    pickup.slimtad.term()
    pickup.slimtad.start_again()
    assert pickup.delivered(1)[0]["subject"] == "later"


def test_what_is_put_off(place, make_slimtad):
    """As many files of one user as there may be in `taken` keep nobody else's out; `status` tells of them, and after
    `expire` of [queue] each is set aside.
    """
    rules = [{"name": "slow", "at": "mail", "login": "daemon", "reply": "450 4.7.1 Slow down"}]
    pickup = Pickup(place, make_slimtad, rule=rules, queue={"expire": "1h"}).start()
    for number in range(1100):
        pickup.drop(str(number), mail("slow"), owner=DAEMON)
    wait_until(lambda: len(list((pickup.folder / "taken").iterdir())) >= 1000, 60, "1,000 files in taken")
    pickup.drop("his", mail("his"), owner=MAIL)
    assert pickup.delivered(1)[0]["subject"] == "his"
    told = re.search(r"edge pickup: 1000 not taken yet, such as \d+: 450 4.7.1 Slow down", command(pickup.slimtad, "status"))
    assert told
    pickup.slimtad.term()
    for path in (pickup.folder / "taken").iterdir():
        if not path.name.endswith("~7"):
            path.unlink()
    for path in pickup.folder.glob("1*"):
        path.unlink()
    pickup.slimtad.change(queue={"expire": "1s"})
    # Of that age when it is tried: the next try is a minute later.
    (file,) = (pickup.folder / "taken").glob("*~7")
    wait_until(lambda: time.time() - file.stat().st_ctime > 1.2, 10, "a file that has waited")
    pickup.slimtad.start_again()
    assert "reply: 554 5.4.7 Tried for too long, and in the end: 450 4.7.1 Slow down" in pickup.failed("7")


# What happens to the folder


def test_ready_means_watched(place, make_slimtad):
    """What is dropped at once behind "ready" is seen, and not only by a scan."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False}).start()
    assert pickup.is_watched()


def test_removed_and_made_again(pickup):
    """While it is away nothing is taken and the log says why; then files are taken again."""
    pickup.slimtad.expect_error("no files are taken")
    shutil.rmtree(pickup.folder)
    pickup.slimtad.wait_for_log("no files are taken")
    assert "takes no files" in command(pickup.slimtad, "status")
    pickup.folder.mkdir()
    give(pickup.folder)
    pickup.drop("again", mail("again"))
    assert pickup.delivered(1)[0]["subject"] == "again"
    assert "takes no files" not in command(pickup.slimtad, "status")


def test_more_events_than_the_kernel_keeps(pickup):
    """While the daemon stands still inotify's queue overflows; no file is forgotten."""
    pickup.slimtad.signal(signal.SIGSTOP)
    for number in range(20_000):
        os.close(os.open(pickup.folder / ".x", os.O_CREAT | os.O_WRONLY))
        os.unlink(pickup.folder / ".x")
    pickup.drop("late", mail("late"))
    pickup.slimtad.signal(signal.SIGCONT)
    assert pickup.delivered(1)[0]["subject"] == "late"


def test_reload_adds_changes_and_ends_it(place, make_slimtad):
    """The edge comes and goes with the configuration, and takes another folder."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False})
    pickup.slimtad.change(edge=pickup.usual)
    pickup.start()
    pickup.drop("first", mail("first"))
    pickup.change()
    pickup.slimtad.reload()
    assert pickup.delivered(1)[0]["subject"] == "first"
    other = place.folder("other")
    pickup.change(path=str(other))
    pickup.slimtad.reload()
    os.rename(pickup.write("second", mail("second")), other / "second")
    assert len(pickup.delivered(2)) == 2
    pickup.slimtad.change(edge=pickup.usual)
    pickup.slimtad.reload()
    pickup.slimtad.wait_until(lambda: len(pickup.slimtad.events()) and NAME not in command(pickup.slimtad, "status"))
    os.rename(pickup.write("third", mail("third")), other / "third")
    time.sleep(1)
    assert (other / "third").exists()


# Crashes


def test_crashed_while_taken(place, make_slimtad):
    """What lies in `taken` is submitted after the start, under the id that its name has."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False})
    (pickup.folder / "taken").mkdir(mode=0o700)
    give(pickup.folder / "taken")
    queue_id = "0193" + "5a" * 14
    pickup.write(f"{queue_id}~crashed", mail("crashed"), pickup.folder / "taken")
    pickup.start()
    assert pickup.delivered(1)[0]["subject"] == "crashed"
    assert pickup.slimtad.wait_for_events(edge=NAME)[0]["queue_id"] == queue_id
    pickup.wait_until_empty()


def killed_again_and_again(place, make_slimtad, count, kills):
    """Drops files while the daemon is killed; how often each is queued, and how long it took."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False}, queue={"deliver": False}).start()
    began = time.monotonic()

    def drop(number):
        pickup.drop(f"{number}.eml", mail(f"number {number}", body=("x" * 70 + "\n") * random.randrange(1, 30)))
        time.sleep(random.random() * 0.002)

    with concurrent.futures.ThreadPoolExecutor(4) as writers:
        pending = [writers.submit(drop, number) for number in range(count)]
        for kill in range(kills):
            # Somewhere on the way.
            wait_until(lambda: sum(done.done() for done in pending) >= count * (kill + 1) // (kills + 1), timeout=120)
            pickup.slimtad.signal(signal.SIGKILL)
            pickup.slimtad.wait()
            pickup.slimtad.start_again()
        for done in pending:
            done.result()
    pickup.wait_until_empty(120)
    taken = time.monotonic() - began
    queued = int(command(pickup.slimtad, "queue", "count"))
    pickup.slimtad.change(queue={"deliver": True})
    assert pickup.slimtad.term() == 0
    pickup.slimtad.start_again()
    messages = pickup.delivered(count)
    assert sorted(message["subject"] for message in messages) == sorted(f"number {number}" for number in range(count))
    assert queued == count
    return taken


def test_killed_again_and_again(place, make_slimtad):
    """Each file is queued exactly once. `make kill-directory` does it with 1,000."""
    count = int(os.environ.get("SLIMTAD_FILES", "60"))
    taken = killed_again_and_again(place, make_slimtad, count, KILLS)
    print(f"{count} files, {KILLS} kills, {taken:.1f} s: each message once")


# slimtad check


def findings(pickup, status=0):
    result = run_slimtad("check", "--config", pickup.slimtad.configuration)
    assert result.returncode == status, (result.stdout, result.stderr)
    return result.stdout + result.stderr


def test_check_says_what_would_not_work(place, make_slimtad):
    pickup = Pickup(place, make_slimtad)
    pickup.slimtad.add_user()
    pickup.slimtad.settings["edge"][-1]["trusted_users"] = ["root", "no-such"]
    pickup.slimtad.change()
    assert "trusted_users: there is no user no-such" in findings(pickup)
    del pickup.slimtad.settings["edge"][-1]["trusted_users"]
    pickup.slimtad.change()
    found = findings(pickup)
    assert f"files in {pickup.folder}, sent by their owners, root as anybody" in found and "in the group of" not in found
    for mode, finding in [
            (0o700, "nobody but its owner"), (0o730, "may take away those of others"), (0o1770, "others may see")]:
        pickup.folder.chmod(mode)
        assert finding in findings(pickup), oct(mode)
    os.chown(pickup.folder, -1, 65533)
    pickup.folder.chmod(0o3730)
    assert "nobody is not in the group of" in findings(pickup)
    os.chown(pickup.folder, 0, 0)
    pickup.folder.chmod(0o1733)
    assert "is sticky and not nobody's" in findings(pickup, CONFIGURATION)
    pickup.folder.chmod(0o733)
    assert "cannot read and write" in findings(pickup, CONFIGURATION)
    give(pickup.folder)
    (pickup.folder / "taken").mkdir(mode=0o777)
    assert "taken has to be a folder of nobody's" in findings(pickup, CONFIGURATION)
    shutil.rmtree(pickup.folder)
    assert "install -d -m 3730 -o nobody" in findings(pickup, CONFIGURATION)
    pathlib.Path(pickup.folder).write_text("")
    assert "is no folder" in findings(pickup, CONFIGURATION)


def test_set_aside_with_the_reason(pickup):
    """What is no message lies in `failed`, as it was, with the reason beside it; status counts it."""
    pickup.slimtad.expect_error("file refused")
    cases = {
        "nobody": (mail("x", to="undisclosed-recipients:;"), "No recipients"),
        "cr": (mail("x") + "a\rb\n", "Line 8 has a CR without LF"),
        "nul": (mail("x") + "a\0b\n", "NUL"),
        "both": ("X-Sender: a@b.test\nX-Envelope-Recipient: c@one.test\n" + mail("x"), "beside"),
        "empty": ("", "No recipients"),
    }
    for name, (text, _) in cases.items():
        pickup.drop(name, text)
    for name, (text, reason) in cases.items():
        found = pickup.failed(name)
        assert reason in found and "reply: 5" in found and found.startswith("time: 20"), found
        assert (pickup.folder / "failed" / name).read_bytes() == text.encode()
    # A second one of that name does not replace the first.
    pickup.drop("nobody", mail("y", to="undisclosed-recipients:;"))
    wait_until(lambda: len(list((pickup.folder / "failed").glob("*~nobody.reason"))) == 1)
    assert f"{len(cases) + 1} refused" in command(pickup.slimtad, "status")
    pickup.wait_until_empty()


def test_too_many_recipients(place, make_slimtad):
    """A file goes to all or nobody, and another time it has no fewer: it is not tried again and again."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False}, limits={"recipients": 2}).start()
    pickup.drop("three", mail("three", to="a@one.test, b@one.test, c@one.test"))
    assert "reply: 554 5.5.3 Too many recipients, 2 at most" in pickup.failed("three")


def test_too_large(place, make_slimtad):
    """By the size of the file, before it is read; and a large one that is not too large arrives whole."""
    pickup = Pickup(place, make_slimtad, {"owner_login": False}, limits={"message_size": "1MiB"}).start()
    body = "".join(f"{number:070}\n" for number in range(10_000))
    pickup.drop("large", mail("large", body=body))
    assert pickup.delivered(1)[0].get_content().replace("\r\n", "\n") == body
    pickup.drop("larger", mail("x", body=body * 2))
    assert "552" in pickup.failed("larger")
