# Two-phase commit across the end of a server: the marks of a prepared transaction were in memory and are gone, but
# nothing stale is answered before or after its end. While it lives, no snapshot is trusted.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('prepared', "autovacuum = off\nrestart_after_crash = on\nwal_level = replica\nmax_wal_senders = 2\n");
load_chat($node, 'chat');

sub sql { return $node->safe_psql('chat', shift); }

# "source: the user's own text"
sub text_of
{
    my $answer = answer($node, 'chat', shift);
    return ($answer =~ /^(\w+)/)[0] . ': ' . ($answer =~ /--- User Preferences ---\n(.*)/s)[0];
}

sub fill_and_flush
{
    sql('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u');
    return sql('SELECT prompt_cache.flush()');
}

# Prepared after the start, nothing is held up
sql(q{UPDATE users SET system_prompt = 'plain ' || user_id});
fill_and_flush();
sql(q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id IN (1, 6); PREPARE TRANSACTION 'quiet'});
is(text_of(1), 'memory: plain 1', 'the row of a prepared transaction is still hit');
is(text_of(2), 'memory: plain 2', 'so are others');
my $old = $node->background_psql('chat');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{COMMIT PREPARED 'quiet'});
is(text_of(1), 'built: prepared', 'once committed it is seen');
is(text_of(6), 'built: prepared', 'by all its rows');
like($old->query_safe('SELECT prompt_cache.prompt(1)'), qr/plain 1$/, 'a snapshot of before keeps the old text');
is(text_of(1), 'memory: prepared', 'and others the new one');
$old->query_safe('COMMIT');

# While PREPARE TRANSACTION waits for a standby, the server lists its transaction twice in snapshots. So of two snapshots with the same
# bounds, and as many running, one may see a commit that the other does not.
{
    my ($prepares, $writes, $reads) = map { $node->background_psql('chat') } 1 .. 3;
    $_->query_safe('SET synchronous_commit = local') for $writes, $reads;
    sql(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
    sql('SELECT pg_reload_conf()');
    $node->poll_query_until('chat', q{SELECT current_setting('synchronous_standby_names') = 'nobody'}) or die 'no reload';
    $prepares->query_safe(q{BEGIN; UPDATE users SET system_prompt = 'waits' WHERE user_id = 20});
    $writes->query_safe(q{BEGIN; UPDATE users SET system_prompt = 'written' WHERE user_id = 3});
    sql(q{SET synchronous_commit = local; UPDATE users SET system_prompt = 'closes' WHERE user_id = 21});
    my $ask = q{SELECT source || ' ' || (prompt LIKE '%plain 3') FROM prompt_cache.get_or_build(3)};
    my $seen = q{SELECT pg_snapshot_xmin(s) || ' ' || pg_snapshot_xmax(s) FROM pg_current_snapshot() s};
    $reads->query_safe('SET prompt_cache.memory = off');
    is($reads->query_safe($ask), 'database true', 'before the commit the row is good');
    my $bounds = $reads->query_safe($seen);
    $prepares->query_until(qr/asked/, "\\echo asked\nPREPARE TRANSACTION 'waits';\n");
    $node->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) or die 'PREPARE does not wait';
    $writes->query_safe('COMMIT');
    is($reads->query_safe($seen), $bounds, 'the bounds are those of before');
    is($reads->query_safe($ask), 'built false', 'after the commit it is not');
    sql('ALTER SYSTEM RESET synchronous_standby_names');
    sql('SELECT pg_reload_conf()');
    $prepares->query_safe(q{ROLLBACK PREPARED 'waits'});
    $_->quit for $prepares, $writes, $reads;
}

# Each way for a server to end, with transactions prepared before it
my %end = (
    crash => sub { $node->stop('immediate'); $node->start; },
    restart => sub { $node->restart; },
    kill => sub {
        my $started = sql('SELECT pg_postmaster_start_time()');
        my $checkpointer = q{SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
        my $before = sql($checkpointer);
        $node->psql('chat', q{DO $$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); END $$});
        $node->poll_query_until('chat', "SELECT ($checkpointer) > '$before'") or die 'the server did not come back';
        is(sql('SELECT pg_postmaster_start_time()'), $started, 'kill: the same postmaster');
    });
for my $way (sort keys %end)
{
    sql(q{UPDATE users SET system_prompt = 'plain ' || user_id; UPDATE tenants SET system_prompt = 'rules ' || id});
    cmp_ok(fill_and_flush(), '>', 0, "$way: everything is in memory and in the table");

    my $savepoints = join ' ', map { "SAVEPOINT s; UPDATE users SET system_prompt = 'sub $_' WHERE user_id = 10 + $_; " . ($_ % 2 ? 'ROLLBACK TO s;' : 'RELEASE s;') } 1 .. 20;
    sql(q{BEGIN; UPDATE users SET system_prompt = 'committed' WHERE user_id IN (1, 2); PREPARE TRANSACTION 'commit'});
    sql(q{BEGIN; UPDATE users SET system_prompt = 'undone' WHERE user_id IN (3, 4); PREPARE TRANSACTION 'roll back'});
    sql("BEGIN; $savepoints $savepoints $savepoints $savepoints PREPARE TRANSACTION 'subtransactions'");
    sql(q{BEGIN; UPDATE tenants SET system_prompt = 'rules committed' WHERE id = 3; PREPARE TRANSACTION 'tenant'});
    sql(q{UPDATE users SET system_prompt = 'after the prepare' WHERE user_id = 50});
    $end{$way}->();

    for my $time ('first', 'second')
    {
        is(text_of(1), 'built: plain 1', "$way: before COMMIT PREPARED, $time call");
        is(text_of(3), 'built: plain 3', "$way: before ROLLBACK PREPARED, $time call");
        is(text_of(12), 'built: plain 12', "$way: before the end of subtransactions, $time call");
    }
    is(text_of(50), 'built: after the prepare', "$way: a plain change of before");
    is(sql('SELECT prompt_cache.flush()'), '0', "$way: nothing is saved meanwhile");
    is(exact($node, 'chat'), '60 of 60', "$way: all prompts are exact while all are prepared");

    sql(q{COMMIT PREPARED 'commit'});
    is(text_of(1), 'built: committed', "$way: COMMIT PREPARED is seen");
    is(text_of(1), 'built: committed', "$way: others that are prepared still hold the bound");
    sql(q{ROLLBACK PREPARED 'roll back'});
    is(text_of(3), 'built: plain 3', "$way: ROLLBACK PREPARED leaves the old text");
    sql(q{COMMIT PREPARED 'subtransactions'});
    is(text_of(12), 'built: sub 2', "$way: what its subtransactions changed");
    is(text_of(13), 'built: plain 13', "$way: and what they have undone");
    like(answer($node, 'chat', 2), qr/rules 3\n\n.*committed$/s, "$way: the tenant's is the last");

    # A transaction that begins before the last one ends keeps to its snapshot
    $old->reconnect_and_clear;
    $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    sql(q{COMMIT PREPARED 'tenant'});
    like(answer($node, 'chat', 2), qr/^built\|.*rules committed\n\n.*committed$/s, "$way: the tenant's change is seen");
    like(answer($node, 'chat', 2), qr/^memory\|.*rules committed\n\n.*committed$/s, "$way: and memory is used at last");
    my $ask = 'SELECT source, prompt FROM prompt_cache.get_or_build(2)';
    like($old->query_safe($ask), qr/^built\|.*rules 3\n\n.*committed$/s, "$way: not by a snapshot of before, $_ call") for 'first', 'second';
    $old->query_safe('COMMIT');
    like($old->query_safe($ask), qr/^memory\|.*rules committed\n\n/s, "$way: but by the next");
    is(text_of(4), 'database: plain 4', "$way: what was rolled back is in the table still");
    is(exact($node, 'chat'), '60 of 60', "$way: all prompts are exact at the end");
    is(sql('SELECT count(*) FROM prompt_cache.verify()'), '0', "$way: verify() finds nothing");
}

# DDL that is prepared: rows changed behind the triggers' back
fill_and_flush();
sql(q{BEGIN; ALTER TABLE users DISABLE TRIGGER ALL; UPDATE users SET system_prompt = 'behind the back' WHERE user_id = 8;
    ALTER TABLE users ENABLE TRIGGER ALL; ALTER TABLE users ENABLE ALWAYS TRIGGER prompt_cache_user_changed;
    ALTER TABLE users ENABLE ALWAYS TRIGGER prompt_cache_user_truncated; PREPARE TRANSACTION 'ddl'});
is(text_of(8), 'memory: plain 8', 'prepared DDL is not seen, and empties nothing');
$end{crash}->();
is(text_of(8), 'built: plain 8', 'nor after a crash');
sql(q{COMMIT PREPARED 'ddl'});
is(text_of(8), 'built: behind the back', 'but once it is committed');
is(text_of(8), 'memory: behind the back', 'and memory is used');
is(text_of(9), 'built: plain 9', 'DDL has made the whole table useless');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');

$old->quit;
$node->stop;
done_testing();
