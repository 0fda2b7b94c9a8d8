# What was composed is in the table soon after, with its history, though nobody calls flush(); nothing that an operator does
# to a database or to the workers is hindered by them, makes them write to the log over and over, or loses a prompt.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

my $node = new_server('worker', "prompt_cache.persist_naptime = '100ms'\nautovacuum = off\nrestart_after_crash = on\n");
my $expected = q{'Application.'
    || CASE WHEN t.system_prompt <> '' THEN E'\n\n--- Tenant Guidelines ---\n' || t.system_prompt ELSE '' END
    || CASE WHEN u.system_prompt <> '' THEN E'\n\n--- User Preferences ---\n' || u.system_prompt ELSE '' END};
# How many users have a newest row that says what they get now, and how many users there are.
my $saved = qq{SELECT count(*) FILTER (WHERE c.cached_prompt = $expected AND c.replaced_at IS NULL) || ' of ' || count(*)
    FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id
    LEFT JOIN LATERAL (SELECT * FROM prompt_cache.user_prompt_cache c WHERE c.user_key = u.user_id::text ORDER BY id DESC LIMIT 1) c ON true};
sub sql { return $node->safe_psql('chat', shift); }
sub rows { return $node->safe_psql($_[0] // 'chat', 'SELECT count(*) FROM prompt_cache.user_prompt_cache'); }
sub all_saved { my ($name, $database) = @_; return ok($node->poll_query_until($database // 'chat', $saved, '60 of 60'), $name); }
sub log_since { return slurp_file($node->logfile, shift); }
sub log_end { return -s $node->logfile; }

sub is_gone
{
    my ($pid, $seconds) = @_;
    for (1 .. 20 * $seconds) { return 1 unless -d "/proc/$pid"; sleep 0.05; }
    return 0;
}

# A database whose table takes so many seconds a row, and its worker while it is saving.
sub slow_chat
{
    my ($database, $seconds) = @_;
    load_chat($node, $database);
    $node->safe_psql($database, qq{
        CREATE TABLE public.pace (seconds float); INSERT INTO pace VALUES ($seconds);
        CREATE FUNCTION public.slow() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep((SELECT seconds FROM public.pace)); RETURN true; END';
        ALTER TABLE prompt_cache.user_prompt_cache ADD CONSTRAINT slow CHECK (public.slow())});
    exact($node, $database);
    $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'prompt_cache worker' AND wait_event = 'PgSleep'")
        or BAIL_OUT("no worker of $database saves");
    return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'prompt_cache worker'");
}

# Errors and signals come first: it takes its time before a failed worker's work is tried again, which is waited for below.
load_chat($node, $_) for qw(chat failing);
$node->safe_psql('failing', q{
    CREATE TABLE public.allowed (yes boolean);
    CREATE FUNCTION public.allow() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM public.allowed); END';
    ALTER TABLE prompt_cache.user_prompt_cache ADD CONSTRAINT none CHECK (public.allow())});
my $failing_since = log_end();
is(exact($node, 'failing'), '60 of 60', 'answers are exact while no prompt can be saved');

my $worker = slow_chat('interrupted', 0.5);
is($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE pid = $worker"), 'saving prompts', 'a worker shows what it does');
kill 'HUP', $worker;
sleep 0.2;
ok(-d "/proc/$worker", 'SIGHUP does not end it');
kill 'INT', $worker;
ok(is_gone($worker, 2), 'SIGINT does');
is(rows('interrupted'), '0', 'before it has saved anything');
$node->safe_psql('interrupted', 'UPDATE pace SET seconds = 0');
all_saved('but the next one saves it all', 'interrupted');

$worker = slow_chat('terminated', 0.02);
kill 'TERM', $worker;    # the postmaster signals a process, and then its group
sleep 0.02;
kill 'TERM', $worker;
ok(is_gone($worker, 4), 'SIGTERM ends it');
is($node->safe_psql('terminated', $saved), '60 of 60', 'when it has saved everything');

$worker = slow_chat('killed', 60);
kill 'TERM', $worker;
sleep 1.2;
kill 'TERM', $worker;
ok(is_gone($worker, 1), 'a second SIGTERM, a second later, ends it at once');
$worker = slow_chat('stuck', 60);
my $stuck_since = time;
ok(is_gone($worker, 8), 'what does not end is ended');
cmp_ok(time - $stuck_since, '<', 6, 'in time for DROP DATABASE');
is(exact($node, $_), '60 of 60', "$_: answers are exact") for qw(interrupted terminated killed stuck);
ok($node->poll_query_until('stuck', q{SELECT prompt_cache.health() -> 'worker' ->> 'problems' LIKE '%took too long%'}), 'health() says so');
$node->safe_psql('killed', 'UPDATE pace SET seconds = 0');
$node->safe_psql('postgres', 'DROP DATABASE stuck');

# Saving
my $began = time;
is(exact($node, 'chat'), '60 of 60', 'all prompts are asked for');
all_saved('and in the table without flush()');
cmp_ok(time - $began, '<', 5, 'soon');
is(rows(), '60', 'a row a user');
is(sql('SELECT count(prompt_cache.prompt(n)) FROM generate_series(1000, 1020) n'), '0', 'users that are not there are asked for');
sql('SELECT count(prompt_cache.prompt(user_id)) FROM users');
is(sql("SELECT backend_type FROM pg_stat_activity WHERE backend_type = 'prompt_cache launcher'"), 'prompt_cache launcher', 'the launcher is shown');

# History
my $at = sql('SELECT clock_timestamp()');
my $first = sql('SELECT prompt_cache.prompt(2)');
for my $edit (1 .. 5)
{
    sql("UPDATE tenants SET system_prompt = 'edit $edit' WHERE id = 3");
    is(exact($node, 'chat'), '60 of 60', "edit $edit: exact") if $edit == 5;
    sql('SELECT count(prompt_cache.prompt(user_id)) FROM users');
    all_saved("edit $edit: every user of the tenant has a new row");
    next if $edit != 1;
    my $now = sql('SELECT clock_timestamp()');
    my $query = q{SELECT string_agg(cached_prompt, '|') FROM prompt_cache.user_prompt_cache
        WHERE user_id = 2 AND created_at <= '%1$s' AND (replaced_at IS NULL OR replaced_at > '%1$s')};
    is(sql(sprintf $query, $at), $first, 'what a user was given before the edit is one query');
    is(sql(sprintf $query, $now), sql('SELECT prompt_cache.prompt(2)'), 'and what he was given after it');
    is(sql('SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NOT NULL'),
        sql('SELECT count(*) FROM users WHERE tenant_id = 3'), 'the rows before it say that they were replaced, no others do');
}
is(sql('SELECT max(n) FROM (SELECT count(*) n FROM prompt_cache.user_prompt_cache GROUP BY user_key) c'), '3', 'at most `history` rows a user');
is(sql('SELECT count(*) FROM (SELECT replaced_at, lead(created_at) OVER (PARTITION BY user_key ORDER BY id) AS next FROM prompt_cache.user_prompt_cache) h WHERE replaced_at IS DISTINCT FROM next'),
    '0', 'the times of a user\'s rows follow each other without a gap');
is(sql("SELECT count(*) FROM prompt_cache.user_prompt_cache WHERE user_id >= 1000"), '0', 'a user that is not there has no row');
my $too_many = rows() - 60;
is(sql('SELECT prompt_cache.prune(1)'), $too_many, 'prune() says how many rows it deletes');
all_saved('and keeps the newest');
sql('DELETE FROM users WHERE user_id <= 10');
sql('SELECT prompt_cache.flush()');
is(rows(), '50', 'flush() purges the rows of users that are gone');
sql(q{INSERT INTO users SELECT u, 1, 'again ' || u FROM generate_series(1, 10) u; SELECT count(prompt_cache.prompt(user_id)) FROM users});
all_saved('users that are there again are saved');

# Nothing of it could be saved: told once, tried again, and told when it could.
ok($node->poll_query_until('failing', q{SELECT prompt_cache.health() ->> 'status' = 'degraded'}), 'health() says that prompts cannot be saved');
like($node->safe_psql('failing', q{SELECT prompt_cache.health() ->> 'reasons'}), qr/60 users left out, first user .*SQLSTATE 23514/, 'with the reason');
is(rows('failing'), '0', 'nothing was saved');
my $lines = () = log_since($failing_since) =~ /violates check constraint/g;
is($lines, 1, 'the log says it once');
$node->safe_psql('failing', 'INSERT INTO allowed VALUES (true)');

# A prompt that is noted while our table is locked is saved later.
my $locker = $node->background_psql('chat');
$locker->query_safe('BEGIN; LOCK TABLE prompt_cache.user_prompt_cache IN SHARE MODE');
sql(q{UPDATE users SET system_prompt = 'while locked' WHERE user_id < 20; SELECT count(prompt_cache.prompt(user_id)) FROM users});
sleep 0.5;
$locker->query_safe('COMMIT');
$locker->quit;
$began = time;
all_saved('what was noted while the table was locked is saved after it');
cmp_ok(time - $began, '<', 5, 'soon');

# Two databases share the list, and commands on databases are not hindered.
load_chat($node, $_) for qw(dropped renamed copied other);
my $quiet_since = log_end();
exact($node, $_) for qw(dropped renamed copied chat);
$began = time;
$node->safe_psql('postgres', $_) for 'DROP DATABASE dropped', 'ALTER DATABASE renamed RENAME TO named', 'CREATE DATABASE copy TEMPLATE copied';
cmp_ok(time - $began, '<', 5, 'DROP, RENAME and TEMPLATE succeed where prompts are noted');
all_saved("$_ is saved", $_) for qw(named copied);
is(exact($node, 'copy'), '60 of 60', 'the copy is exact');
all_saved('and saved', 'copy');

# What is noted and not saved does not outlive the wiring or the extension.
exact($node, 'other');
$node->safe_psql('other', 'SELECT prompt_cache.detach()');
sleep 0.3;
$node->safe_psql('other', 'SELECT prompt_cache.attach()');
exact($node, 'other');
$node->safe_psql('other', 'DROP EXTENSION prompt_cache');
sleep 0.3;
$node->safe_psql('other', 'CREATE EXTENSION prompt_cache; SELECT prompt_cache.attach(); SELECT prompt_cache.set_application_prompt($$Application.$$)');
is(exact($node, 'other'), '60 of 60', 'after DROP and CREATE EXTENSION answers are exact');
all_saved('and saved', 'other');
unlike(log_since($quiet_since), qr/ERROR|FATAL|PANIC|exit code 1/, 'nothing of this is an error');

# The launcher
my $launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'prompt_cache launcher'";
my $pid = $node->safe_psql('postgres', $launcher);
kill $_, $pid for qw(INT HUP USR1 HUP);
$node->safe_psql('postgres', "ALTER SYSTEM SET prompt_cache.persist_naptime = '1h'; SELECT pg_reload_conf()");
sleep 0.5;
sql(q{UPDATE users SET system_prompt = 'later' WHERE user_id = 20; SELECT prompt_cache.prompt(20)});
sleep 0.5;
is($node->safe_psql('chat', $saved), '59 of 60', 'a new persist_naptime is obeyed');
$node->safe_psql('postgres', "ALTER SYSTEM RESET prompt_cache.persist_naptime; SELECT pg_reload_conf()");
all_saved('and so is the old one');
is($node->safe_psql('postgres', $launcher), $pid, 'by the same launcher, which signals have not ended');
kill 'TERM', $pid;

# Back to what could not be saved.
all_saved("$_: saved in the end", $_) for qw(killed failing);
ok($node->poll_query_until('failing', q{SELECT prompt_cache.health() ->> 'status' = 'ok'}), 'and health() is ok again');
$lines = () = log_since($failing_since) =~ /violates check constraint/g;
is($lines, 1, 'the log has said it once');
like(log_since($failing_since), qr/saving prompts to user_prompt_cache: all is done again/, 'and that it is over');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'prompt_cache launcher' AND pid <> $pid"), 'another launcher has taken over');

# No slot is free: the launcher of logical replication and ours take them all.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
my $since = log_end();
sql(q{UPDATE users SET system_prompt = 'no slot' WHERE user_id < 30});
is(exact($node, 'chat'), '60 of 60', 'no slot: answers are exact');
ok($node->poll_query_until('chat', q{SELECT prompt_cache.health() ->> 'status' = 'degraded'}), 'no slot: health() says it');
like(sql('SELECT prompt_cache.health() ->> $$reasons$$'), qr/no background worker slot is free/, 'no slot: with the reason');
sql('UPDATE users SET system_prompt = system_prompt || 1; SELECT count(prompt_cache.prompt(user_id)) FROM users') for 1 .. 5;
sleep 1;
is(exact($node, 'chat'), '60 of 60', 'no slot: and exact');
$lines = () = log_since($since) =~ /no background worker slot is free/g;
is($lines, 1, 'no slot: one line in the log');
cmp_ok(sql('SELECT prompt_cache.flush()'), '>', 0, 'no slot: flush() saves');
$node->stop;

done_testing();
