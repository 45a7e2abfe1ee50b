"""`slimtad database init|upgrade|status`, and what `slimtad check` says of a database: against a server of PostgreSQL."""

import itertools
import json
import re
import subprocess
import threading

import pytest

from harness.machine import give
from harness.postgres import Postgres, binary
from harness.slimtad import CONFIGURATION, NOT_PERMITTED, OK, TEMPORARY, UNAVAILABLE, USAGE, run_slimtad

TABLES = (
    "bucket command fence inbox item ledger ledger_step loss "
    + " ".join(f"message_{number:02}" for number in range(24))
    + " message_long move node part receipt receipt_part removed_step ring schema site").split()
# A server without a standby, which is told with each command where `synchronous` is "required".
NO_STANDBY = "synchronous_standby_names is empty"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(module_place):
    return Postgres(module_place).start()


@pytest.fixture
def words(server):
    """A database of its own for each test."""
    name = f"q{next(_numbers)}"
    return server.add_database(name, f"r{name}")


def configured(make_slimtad, words, **settings):
    """A configuration with its queue in that database; the daemon is not started."""
    settings = {"connection": words, "synchronous": "optional", **settings}
    daemon = make_slimtad().add_user()
    daemon.change(queue={"storage": "postgresql", "postgresql": [settings]})
    return daemon


def database(daemon, *arguments, **options):
    return run_slimtad("database", *arguments, "--config", daemon.configuration, **options)


def check(daemon):
    return run_slimtad(
        "check", "--config", daemon.configuration, env={"SYSTEMD_UNIT_PATH": str(daemon.folder / "no-units")})


def facts(words):
    return dict(word.split("=", 1) for word in words.split())


def sql(server, words, text):
    return server.sql(text, facts(words)["dbname"])


def tables(server, words):
    found = sql(server, words, "select tablename from pg_tables where schemaname = 'slimtad' order by 1")
    return found.split()


# init


def test_init(server, words, make_slimtad):
    """Once they are made; twice is harmless, and both say what is there."""
    daemon = configured(make_slimtad, words)
    done = database(daemon, "init")
    assert (done.returncode, done.stdout, done.stderr) == (OK, "the tables were made: version 1, 256 buckets\n", "")
    assert tables(server, words) == TABLES
    assert sql(server, words, "select version, oldest, buckets from slimtad.schema") == "1|1|256"
    sql(server, words, "update slimtad.bucket set owner = 'mx1' where number = 7")
    done = database(daemon, "init", "--buckets", "16")
    assert (done.returncode, done.stdout) == (OK, "the tables are there already: version 1, 256 buckets\n")
    assert sql(server, words, "select count(*), count(owner) from slimtad.bucket") == "256|1"


def test_owner(server, words, make_slimtad):
    """Nobody else may look at mail."""
    assert database(configured(make_slimtad, words), "init").returncode == OK
    role = facts(words)["user"]
    owners = sql(server, words, "select distinct tableowner from pg_tables where schemaname = 'slimtad'")
    assert owners == role
    grants = sql(
        server, words, "select count(*) from information_schema.role_table_grants "
        f"where table_schema = 'slimtad' and grantee <> '{role}'")
    assert grants == "0" and sql(server, words, "select nspacl from pg_namespace where nspname = 'slimtad'") == ""


def test_buckets(server, words, make_slimtad):
    daemon = configured(make_slimtad, words)
    for number in ("0", "4097", "many"):
        assert database(daemon, "init", "--buckets", number).returncode == USAGE
    assert "16 buckets" in database(daemon, "init", "--buckets", "16").stdout
    assert sql(server, words, "select min(number), max(number), count(*) from slimtad.bucket") == "0|15|16"


def test_many_at_once(server, words, make_slimtad):
    """One makes them, and all say what is there."""
    daemon = configured(make_slimtad, words)
    results = []
    threads = [threading.Thread(target=lambda: results.append(database(daemon, "init"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [done.returncode for done in results] == [OK] * 6, [done.stderr for done in results]
    assert sum("were made" in done.stdout for done in results) == 1
    assert tables(server, words) == TABLES


def test_role_that_may_not(server, words, make_slimtad):
    """It needs CREATE on the database, or a schema that an administrator has made for it."""
    name, role = facts(words)["dbname"], facts(words)["user"]
    server.sql(f'alter database "{name}" owner to boss')
    daemon = configured(make_slimtad, words)
    done = database(daemon, "init")
    assert done.returncode == NOT_PERMITTED and f"permission denied for database {name}" in done.stderr, done.stderr
    assert "nothing was changed" in done.stderr and tables(server, words) == []
    sql(server, words, f'create schema slimtad authorization "{role}"')
    done = database(daemon, "init")
    assert done.returncode == OK and tables(server, words) == TABLES, done.stderr


def test_half_of_something_else(server, words, make_slimtad):
    """A table of somebody in the way: nothing is made."""
    sql(server, words, f"create schema slimtad authorization \"{facts(words)['user']}\"")
    sql(server, words, "create table slimtad.loss (x int)")
    done = database(configured(make_slimtad, words), "init")
    assert done.returncode == UNAVAILABLE and '"loss" already exists' in done.stderr, done.stderr
    assert tables(server, words) == ["loss"]


def test_encoding(server, words, make_slimtad):
    name, role = facts(words)["dbname"], facts(words)["user"]
    server.sql(f'create database "{name}l" owner "{role}" encoding \'LATIN1\' locale \'C\' template template0')
    daemon = configured(make_slimtad, server.words(f"{name}l", role))
    done = database(daemon, "init")
    assert done.returncode == CONFIGURATION and "encoding is LATIN1" in done.stderr, done.stderr


# Passwords, and who connects


def test_password(server, make_slimtad):
    words = server.add_database("guarded", "guarded", password="hush hush")
    daemon = configured(make_slimtad, words)
    done = database(daemon, "init")
    assert done.returncode == UNAVAILABLE and "password" in done.stderr, done.stderr
    secret = daemon.folder / "password"
    secret.write_text("hush hush\n")
    secret.chmod(0o600)
    give(secret)
    daemon.change(queue={
        "storage": "postgresql",
        "postgresql": [{"connection": words, "password_file": str(secret), "synchronous": "optional"}]})
    done = database(daemon, "init")
    assert done.returncode == OK, done.stderr
    assert check(daemon).returncode == OK
    secret.write_text("another\n")
    for done, status in ((database(daemon, "status"), UNAVAILABLE), (check(daemon), CONFIGURATION)):
        assert done.returncode == status and "password authentication failed" in done.stderr, done.stderr
        assert "another" not in done.stderr and "hush" not in done.stderr


def test_password_of_the_unit(server, make_slimtad):
    """systemd passes credentials to the service alone: a command finds them where the unit has them from."""
    words = server.add_database("credited", "credited")
    daemon = configured(make_slimtad, words, password_file="credential:queue-db")
    done = database(daemon, "init", env={"SYSTEMD_UNIT_PATH": str(daemon.folder / "no-units")})
    assert done.returncode != OK and "credential:queue-db" in done.stderr, done.stderr
    secret, units = daemon.folder / "password", daemon.folder / "units"
    units.mkdir()
    secret.write_text("whatever\n")
    secret.chmod(0o600)
    (units / "slimtad.service").write_text(f"[Service]\nLoadCredential=queue-db:{secret}\n")
    done = database(daemon, "init", env={"SYSTEMD_UNIT_PATH": str(units)})
    assert done.returncode == OK, done.stderr


def test_environment_is_ignored(server, words, make_slimtad):
    """What libpq would take from whoever types the command."""
    daemon = configured(make_slimtad, words)
    done = database(daemon, "init", env={"PGHOST": "nowhere", "PGOPTIONS": "-c fsync=nonsense", "PGDATABASE": "other"})
    assert done.returncode == OK, done.stderr
    assert database(daemon, "status", env={"PGSERVICE": "nonsense"}).returncode == OK


# status, upgrade


def test_status(server, words, make_slimtad):
    daemon = configured(make_slimtad, words)
    done = database(daemon, "status")
    assert done.returncode == CONFIGURATION and "slimtad database init" in done.stderr
    assert database(daemon, "upgrade").returncode == CONFIGURATION
    database(daemon, "init")
    sql(
        server, words, "insert into slimtad.node (name, incarnation, machine, roles, egress, version) "
        "values ('mx1', 3, 'm', 3, 'dc1', '9.9'), ('mx2', 1, 'm', 1, 'dc1', '9.9')")
    sql(server, words, "update slimtad.bucket set owner = 'mx1' where number < 56")
    for bucket in (55, 56):
        sql(
            server, words, "insert into slimtad.item (bucket, id, message, part, octets, received, due, attempts, flags, destination, "
            "recipients, delivered, bounced, expired, removed, envelope) values "
            f"({bucket}, gen_random_uuid(), gen_random_uuid(), 0, 1, 1, 1, 0, 0, '', 1, 0, 0, 0, 0, '')")
    sql(server, words, "update slimtad.node set is_gone = true, beat = beat - interval '3 hours' where name = 'mx2'")
    shown = re.sub(" +", " ", database(daemon).stdout)
    assert "tables: version 1, for releases that know version 1" in shown and "256, 200 of them nobody's" in shown, shown
    assert "mx1: works, edge and relay, heard 0s ago" in shown and "56 buckets, 1 message, 9.9" in shown, shown
    assert "mx2: gone, edge, heard 3h ago" in shown, shown
    status = json.loads(database(daemon, "status", "--json").stdout)
    assert (status["version"], status["oldest"], status["buckets"], status["free_buckets"]) == (1, 1, 256, 200)
    assert status["nodes"][0] == status["nodes"][0] | {
        "name": "mx1", "state": "works", "roles": ["edge", "relay"], "egress": "dc1", "incarnation": 3, "buckets": 56,
        "queued": 1}
    assert status["database_octets"] > status["content_octets"] > 0 and status["warnings"] == []
    done = database(daemon, "upgrade")
    assert (done.returncode, done.stdout) == (OK, "nothing to do: the tables have version 1\n")


def test_newer_tables(server, words, make_slimtad):
    """They do no harm until they say so; then nobody starts with them, and status still shows them."""
    daemon = configured(make_slimtad, words)
    database(daemon, "init")
    sql(server, words, "update slimtad.schema set version = 7")
    for done in (database(daemon, "status"), database(daemon, "init"), database(daemon, "upgrade"), check(daemon)):
        assert done.returncode == OK and "version 7" in done.stdout, done.stderr
    sql(server, words, "update slimtad.schema set oldest = 6")
    for done in (database(daemon, "status"), check(daemon)):
        assert done.returncode == CONFIGURATION, done.stderr
        assert "only releases that know version 6 may use it: this one knows version 1" in done.stderr
    assert "version 7, for releases that know version 6" in database(daemon, "status").stdout
    sql(server, words, "update slimtad.schema set version = 0, oldest = 0")
    done = check(daemon)
    assert done.returncode == CONFIGURATION and "slimtad database upgrade" in done.stderr


# check, and what servers should not be


def test_check(server, words, make_slimtad):
    daemon = configured(make_slimtad, words)
    done = check(daemon)
    assert done.returncode == CONFIGURATION and "queue.postgresql[0].connection: " in done.stderr, done.stderr
    assert "slimtad database init" in done.stderr
    database(daemon, "init")
    done = check(daemon)
    assert done.returncode == OK and "postgresql" not in done.stderr, done.stderr
    assert "database: PostgreSQL " in done.stdout and "tables of version 1, 256 buckets" in done.stdout
    assert f"queue: in PostgreSQL, {words}" in done.stdout and "node mail.slimtad.test: edge and relay\n" in done.stdout
    daemon.change(node={"name": "mx1"})
    assert "node mx1: edge and relay\n" in check(daemon).stdout


def test_warnings(server, words, make_slimtad):
    """Settings that lose mail are told by all commands, and by check, which stays green."""
    daemon = configured(make_slimtad, words, synchronous="required")
    role = facts(words)["user"]
    for setting in ("synchronous_commit = off", "default_transaction_isolation = serializable", "statement_timeout = '3s'"):
        sql(server, words, f'alter role "{role}" set {setting}')
    done = database(daemon, "init")
    told = ("synchronous_commit is off", "default_transaction_isolation is serializable", "statement_timeout is 3000 ms",
            NO_STANDBY)
    for text in (done.stderr, database(daemon, "status").stdout, check(daemon).stderr):
        for warning in told:
            assert re.search(f"^.*warning: .*{warning}", text, re.M), text
        assert f'alter role "{role}" set synchronous_commit = on' in text
    assert check(daemon).returncode == OK
    sql(server, words, f'alter role "{role}" reset all')
    told = [line for line in check(daemon).stderr.splitlines() if "postgresql" in line]
    assert len(told) == 1 and NO_STANDBY in told[0], told


def test_fsync_off_and_standby(place, make_slimtad):
    """A server that loses mail; its standby, where nothing can be made, and the two together, of which one is found."""
    careless = Postgres(place, fsync="off", full_page_writes="off").start()
    words = careless.add_database()
    standby = Postgres(place, "standby").follow(careless).start()
    careless.settings["synchronous_standby_names"] = "standby"
    careless.sql("alter system set synchronous_standby_names = 'standby'")
    careless.sql("select pg_reload_conf()")
    daemon = configured(make_slimtad, words, synchronous="required")
    done = database(daemon, "init")
    assert done.returncode == OK and NO_STANDBY not in done.stderr
    assert "fsync is off: acknowledged mail" in done.stderr and "full_page_writes is off" in done.stderr

    def connect(words):
        daemon.change(queue={"storage": "postgresql", "postgresql": [{"connection": words}]})

    connect(standby.words("slimtad", "mail"))
    assert database(daemon, "status").returncode == UNAVAILABLE
    connect(standby.words("slimtad", "mail") + " target_session_attrs=any")
    done = check(daemon)
    assert done.returncode == CONFIGURATION and "the server is a standby" in done.stderr, done.stderr
    connect(f"host={standby.folder},{careless.folder} port={standby.port},{careless.port} dbname=slimtad user=mail")
    assert database(daemon, "status").returncode == OK


# What is not there


def test_no_server(server, place, make_slimtad):
    nowhere = Postgres(place, "nowhere")
    daemon = configured(make_slimtad, nowhere.words("slimtad", "mail"))
    for command in ("init", "upgrade", "status"):
        done = database(daemon, command)
        assert done.returncode == UNAVAILABLE and str(nowhere.folder) in done.stderr, done.stderr
    assert check(daemon).returncode == CONFIGURATION


def test_no_libpq(server, words, make_slimtad, place):
    """The daemon does without it, and says what to install."""
    daemon = configured(make_slimtad, words)
    folder = place.folder("lib")
    (folder / "libpq.so.5").write_text("no library")
    (folder / "libpq.so.5").chmod(0o755)
    for command, status in (("init", UNAVAILABLE), ("status", UNAVAILABLE)):
        done = database(daemon, command, env={"LD_LIBRARY_PATH": str(folder)})
        assert done.returncode == status and "apt install libpq5" in done.stderr, done.stderr


def test_local_queue(make_slimtad):
    daemon = make_slimtad().add_user()
    for command in ("init", "upgrade", "status"):
        done = database(daemon, command)
        assert done.returncode == CONFIGURATION and 'storage = "postgresql"' in done.stderr, done.stderr
    assert "PostgreSQL" not in check(daemon).stdout


def test_table_in_use(server, words, make_slimtad):
    """Somebody holds a table for longer than the role waits."""
    daemon = configured(make_slimtad, words)
    name = facts(words)["dbname"]
    holder = subprocess.Popen(
        [str(binary("psql")), "-X", "-q", "-d", server.words(name, "boss")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        database(daemon, "init")
        holder.stdin.write("begin;\nlock table slimtad.schema;\nselect 'locked';\n")
        holder.stdin.flush()
        while "locked" not in (line := holder.stdout.readline()):
            assert line, "psql ended"
        role = facts(words)["user"]
        sql(server, words, f'alter role "{role}" set lock_timeout = \'200ms\'')
        done = database(daemon, "status")
        assert done.returncode == TEMPORARY and "do it again" in done.stderr, done.stderr
    finally:
        holder.kill()
        holder.wait()
