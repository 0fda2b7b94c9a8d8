# Backends that are cancelled, terminated and killed in the middle of hits, builds, evictions and waits for a build leave
# nothing behind: no stuck flight, no lost byte, no wrong answer. Memory is far too small for what is asked for.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('kills', q{
autovacuum = off
restart_after_crash = on
log_statement = none
prompt_cache.memory_size = '8MB'
prompt_cache.max_value_size = '128kB'
prompt_cache.build_wait = '10min'
}, install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }

my $large = 301;
sql(qq{CREATE FUNCTION consistent() RETURNS boolean LANGUAGE c AS '\$libdir/prompt_cache', 'pc_consistent';
    CREATE FUNCTION filler(size bigint) RETURNS text LANGUAGE sql AS 'SELECT repeat(md5(size::text), (size / 32 + 1)::int)';
    ALTER TABLE users ALTER system_prompt SET STORAGE EXTERNAL;
    INSERT INTO users SELECT u, 1 + u % 5 FROM generate_series(61, $large) u;
    UPDATE users SET system_prompt = filler(CASE WHEN user_id = $large THEN 200000 WHEN user_id % 10 = 0 THEN 100000 ELSE (user_id * 7919) % 40000 END)});
my $joined = q{FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id, LATERAL prompt_cache.get_or_build(u.user_id) g};
my $wrong = q{count(*) FILTER (WHERE g.prompt IS DISTINCT FROM 'Application.'
    || CASE WHEN t.system_prompt <> '' THEN E'\n\n--- Tenant Guidelines ---\n' || t.system_prompt ELSE '' END
    || CASE WHEN u.system_prompt <> '' THEN E'\n\n--- User Preferences ---\n' || u.system_prompt ELSE '' END)};

# What memory says of itself after everything is gone from it: the entries, and the bytes of an empty arena.
sub accounts
{
    my ($when, $empty) = @_;
    is(sql('SELECT consistent()'), 't', "$when: all accounts agree");
    # Nobody builds any more, so nobody may be waited for: all keys within less than build_wait, most of them not in memory.
    is(sql("SET statement_timeout = '10s'; SELECT $wrong, count(*) $joined; SELECT $wrong, count(*) $joined"), "0|$large\n0|$large", "$when: no build is waited for, all answers are right");
    is(sql('SELECT consistent()'), 't', "$when: all accounts agree again");
    is(sql("SELECT prompt_cache.clear() > 0; SELECT entries || '|' || bytes FROM prompt_cache.stats WHERE namespace = 'prompt'; SELECT consistent()"), "t\n$empty\nt", "$when: clear() gives every byte back");
    return;
}

my $empty = sql(q{SELECT entries || '|' || bytes FROM prompt_cache.stats WHERE namespace = 'prompt'});
like($empty, qr/^0\|/, 'memory is empty at first');
is(sql("SELECT $wrong $joined"), 0, 'all answers are right');
accounts('at first', $empty);

# Large values
is(sql("SELECT source, length(prompt) > 200000 FROM prompt_cache.get_or_build($large)"), 'built|t', "a value over max_value_size is returned, $_ call") for 'first', 'second';
is(sql("SELECT count(*) FROM prompt_cache.entries WHERE layer = 'user' AND key = '$large'"), '0', 'and not stored');
is(sql('SELECT source, length(prompt) > 100000 FROM prompt_cache.get_or_build(10)'), "$_|t", "a value of 100 kB: $_") for 'built', 'memory';
sql("SELECT $wrong $joined");
cmp_ok(sql(q{SELECT evictions FROM prompt_cache.stats WHERE namespace = 'prompt'}), '>', 0, 'memory was too small: entries were evicted');
is(sql(q{SELECT (prompt_cache.health() #>> '{tiers,memory,size}')::bigint <= 8 * 1024 * 1024}), 't', 'the whole tier stays within memory_size');

# One builds and cannot go on; the one who waits for it goes on as soon as it is cancelled.
my $locker = $node->background_psql('chat');
sub waits { my ($application, $event) = @_; return $node->poll_query_until('chat', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$application' AND wait_event_type = '$event'"); }
sql('SELECT prompt_cache.clear(), prompt_cache.build(1)');
$locker->query_safe('BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
my $leader = start_session($node, 'chat', "SET application_name = 'leader'; SELECT prompt_cache.prompt(7); SELECT pg_sleep(60)");
ok(waits('leader', 'Lock'), 'a build waits for a lock');
my @waiters = map { start_session($node, 'chat', "SET application_name = 'waiter $_'; SELECT md5(prompt_cache.prompt(7))") } 1 .. 3;
ok(waits("waiter $_", 'Extension'), "backend $_ waits for the build") for 1 .. 3;
my $began = time;
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'leader'});
ok(waits('leader', 'Timeout'), 'the build is cancelled, its backend lives on');
ok($node->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter 1' AND wait_event_type = 'Lock'}), 'who waited for it builds now');
cmp_ok(time - $began, '<', 10, 'and has not waited for build_wait');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter 1'});
like((finish_session($waiters[0]))[1], qr/terminating connection/, 'and is terminated');
$locker->query_safe('COMMIT');
my $right = sql('SELECT md5(prompt_cache.build(7))');
is((finish_session($waiters[$_]))[0], $right, 'those who are left get the right answer') for 1, 2;
accounts('after a cancelled build', $empty);
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leader'});
like((finish_session($leader))[1], qr/canceling statement/, 'the error was the one of a cancel');

# A storm: cancels by the hundred, a lock that stops builds now and then, writers, evictions
my $ids = "ARRAY(SELECT 1 + (random() * ($large - 1))::int FROM generate_series(1, 6))";
sql('CREATE TABLE stop ()');
my $reads = "SET application_name = 'reader';\n\\set stop f\n" . ("SELECT $wrong $joined WHERE u.user_id = ANY ($ids);\n"
    . "SELECT EXISTS (SELECT FROM stop) AS stop \\gset\n\\if :stop\nSELECT pg_sleep(60);\n\\q\n\\endif\n") x 10000;
my @readers = map { start_session($node, 'chat', $reads) } 1 .. 6;
my $writes = start_session($node, 'chat', join ";\n", map { "UPDATE users SET system_prompt = filler((random() * 60000)::bigint) WHERE user_id = 1 + (random() * 99)::int" } 1 .. 5000);
my $stops = start_session($node, 'chat', "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.02); COMMIT; SELECT pg_sleep(0.05);\n" x 100);
ok($node->poll_query_until('chat', q{SELECT count(*) = 6 FROM pg_stat_activity WHERE application_name = 'reader'}), 'all readers are there');
my $sent = $node->safe_psql('postgres', q{
    CREATE FUNCTION storm(OUT sent bigint) LANGUAGE plpgsql AS $$
    DECLARE pids int[] := ARRAY(SELECT pid FROM pg_stat_activity WHERE application_name = 'reader');
            final timestamptz := clock_timestamp() + interval '6 s';
    BEGIN
        sent := 0;
        WHILE clock_timestamp() < final LOOP
            PERFORM pg_cancel_backend(pids[1 + (random() * 5)::int]) FROM generate_series(1, 3);
            sent := sent + 3;
            PERFORM pg_sleep(0.001);
        END LOOP;
    END $$;
    SELECT storm()});
like($sent, qr/^\d{4}$/, "a storm of cancels ($sent)");
sql(q{INSERT INTO stop DEFAULT VALUES; SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE ANY (ARRAY['UPDATE users%', '%pg_sleep%']) AND application_name <> 'reader'});
finish_session($_) for $writes, $stops;
ok($node->poll_query_until('chat', q{SELECT count(*) = 6 FROM pg_stat_activity WHERE application_name = 'reader' AND wait_event = 'PgSleep'}), 'all readers came through and rest');
accounts('after the storm', $empty);
sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'reader'});
my ($good, $cancelled) = (0, 0);
for my $reader (@readers)
{
    my ($out, $err) = finish_session($reader);
    $good += () = $out =~ /^0$/mg;
    $cancelled += () = $err =~ /canceling statement/g;
    unlike($out, qr/^[^0]/m, 'a reader saw no wrong answer');
    unlike($err =~ s/.*(canceling statement|terminating connection|server closed|connection to server|terminated abnormally|while processing).*\n//gr, qr/ERROR|FATAL|PANIC/, 'and no other error');
}
cmp_ok($good, '>', 500, "many reads went through ($good)");
cmp_ok($cancelled, '>', 500, "and many were cancelled ($cancelled)");

# All connections ask at once, half of them for the same user
my @all = map { my $user = $_ % 2 ? 7 : $_; start_session($node, 'chat', "SELECT md5(prompt_cache.prompt($user)) = md5(prompt_cache.build($user))") } 1 .. 30;
is(join(' ', map { (finish_session($_))[0] } @all), join(' ', ('t') x 30), 'thirty connections at once');
accounts('after them', $empty);

# SIGKILL in the middle of a store, and of whoever happens to work: memory is empty then, and the table as it was
my $kept = q{SELECT count(*) || md5(string_agg(c::text, '' ORDER BY id)) FROM prompt_cache.user_prompt_cache c};
is(sql('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 40) u; SELECT prompt_cache.flush()'), "40\n40", 'rows are saved');
my $rows = sql($kept);
$locker->query_safe('SELECT pg_advisory_lock(7061757365)');
for my $round (1 .. 3)
{
    my $checkpointer = q{SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
    my $before = sql($checkpointer);
    my $pause = $round == 1 ? "SET prompt_cache.pause_at = 'check|publish';" : '';
    sql('SELECT prompt_cache.clear()') if $round > 1;
    my @victims = map { start_session($node, 'chat', "SET application_name = 'victim'; $pause" . " SELECT $wrong $joined;\n" x 500) } 1 .. 3;
    if ($pause) { ok($node->poll_query_until('chat', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'victim' AND wait_event = 'advisory'}), 'a store is held up'); }
    else { $node->poll_query_until('chat', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active'}); }
    kill 'KILL', sql(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'victim' ORDER BY wait_event IS NULL LIMIT 1});
    $node->poll_query_until('chat', "SELECT ($checkpointer) > '$before'") or die 'the server did not come back';
    finish_session($_) for @victims;
    like(sql('SELECT source FROM prompt_cache.get_or_build(7)'), $round == 1 ? qr/^database$/ : qr/^built$/, "round $round: memory is empty after SIGKILL");
    is(sql($kept), $rows, "round $round: saved rows are as they were");
    accounts("round $round", $empty);
}

$node->stop;
done_testing();
