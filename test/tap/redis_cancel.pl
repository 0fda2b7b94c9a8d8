# Cancelled between a command and its reply, thousands of times: the next key never gets the last one's value. And a Redis
# that stands still: hits in memory do not feel it, and a lookup that misses waits for one deadline at most.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $proxy = $redis->proxy;
my $node = new_server('cancel', "autovacuum = off\nlog_min_error_statement = panic\nlog_min_messages = fatal\nprompt_cache.redis_timeout = '500ms'\nprompt_cache.redis_url = '" . $proxy->url . "'\n",
    install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
load_chat($node, 'chat');
my $off = 'SET prompt_cache.memory = off; SET prompt_cache.database = off;';
sub sql { return $node->safe_psql('chat', shift); }
sub counted { my $path = join ',', @_; return sql("SELECT (prompt_cache.health() #>> '{tiers,redis,$path}')::bigint"); }
sub settled { $proxy->mode('pass'); return $node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'}); }
my $one = q{SELECT CASE WHEN g.prompt IS DISTINCT FROM prompt_cache.build(%1$d) THEN 'WRONG' ELSE g.source END FROM prompt_cache.get_or_build(%1$d) g};

sql("$off SELECT count(prompt_cache.prompt(user_id)) FROM users");
is(sql("$off SELECT source FROM prompt_cache.get_or_build(2)"), 'redis', 'Redis has the prompts');

# statement_timeout, anywhere from the first byte to the last. A lookup takes three replies of 2 ms.
my $statements = 4000;
$proxy->mode('delay 2');
my $work = "$off\n";
for my $n (1 .. $statements)
{
    $work .= 'SET statement_timeout = ' . (1 + $n % 12) . ";\n";
    $work .= sprintf "$one;\n", 1 + $n * 7919 % 60;
}
my $connections = counted('connections');
my ($out, $err) = run_session($node, 'chat', $work);
my %answers;
$answers{$_}++ for split /\n/, $out;
my $cancelled = () = $err =~ /canceling statement due to statement timeout/g;
note(join ', ', map { "$_: $answers{$_}" } sort keys %answers);
is($answers{WRONG} // 0, 0, 'statement_timeout: no answer of another key');
cmp_ok($cancelled, '>', $statements / 4, "statement_timeout: $cancelled of $statements cancelled");
cmp_ok($answers{redis} // 0, '>', $statements / 10, 'statement_timeout: many others answered by Redis');
cmp_ok(counted('connections') - $connections, '>', $cancelled / 4, 'statement_timeout: connections that were left are not used again');
is(counted('failures', 'protocol'), 0, 'statement_timeout: nothing out of order');
is(counted('refused', 'broken') + counted('refused', 'other_entry'), 0, 'statement_timeout: no value of another key even came');

# pg_cancel_backend, mostly caught inside the transaction.
ok(settled(), 'Redis is well');
$proxy->mode('delay 1');
sql(q{CREATE FUNCTION asked(rounds int) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE
        seen      record;
        redis     int := 0;
        cancelled int := 0;
    BEGIN
        FOR round IN 1..rounds LOOP
            BEGIN
                SELECT g.source, g.prompt IS DISTINCT FROM prompt_cache.build(1 + round % 60) AS wrong INTO seen FROM prompt_cache.get_or_build(1 + round % 60) g;
                redis := redis + (seen.source = 'redis')::int;
                IF seen.wrong THEN RAISE WARNING 'WRONG'; END IF;
            EXCEPTION WHEN query_canceled THEN cancelled := cancelled + 1;
            END;
        END LOOP;
        RETURN redis || ' ' || cancelled;
    END $$});
my $asking = start_session($node, 'chat', "$off SET application_name = 'asking';\n" . "SELECT asked(50);\n" x 150);
my $canceller = start_session($node, 'chat', q{DO $$ BEGIN
    FOR attempt IN 1..100000 LOOP
        PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'asking';
        EXIT WHEN NOT FOUND AND attempt > 200;
        PERFORM pg_sleep(random() * 0.008);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END $$;});
($out, $err) = finish_session($asking);
finish_session($canceller);
my ($from_redis, $caught) = (0, 0);
for (split /\n/, $out) { my ($r, $c) = /(\d+) (\d+)/ or next; $from_redis += $r; $caught += $c; }
unlike($err, qr/WRONG/, 'pg_cancel_backend: no answer of another key');
cmp_ok($caught, '>', 500, "pg_cancel_backend: caught $caught times");
cmp_ok($from_redis, '>', 500, "pg_cancel_backend: $from_redis answers of Redis between them");
is(counted('failures', 'protocol'), 0, 'pg_cancel_backend: nothing out of order');

# Connections are given back: none is left behind by all of these.
ok(settled(), 'Redis is well');
sleep 0.5;
cmp_ok(scalar(split /\n/, $redis->cli('CLIENT', 'LIST')), '<', 10, 'no connection is left behind');

# One that is not used is closed after a while (a second in this build), after an error too. One that is used stays.
sub connected { return scalar grep { !/cmd=client/ } split /\n/, $redis->cli('CLIENT', 'LIST', 'TYPE', 'normal'); }
my $idle = $node->background_psql('chat', on_error_stop => 0);
$idle->query("$off SELECT prompt_cache.prompt(2)");
my $open = connected();
$idle->query('SELECT prompt_cache.prompt(2), pg_sleep(0.3)') for 1 .. 10;
is(connected(), $open, 'a connection that is used stays');
$idle->query('SELECT 1/0');
sleep 3;
is(connected(), $open - 1, 'one that is not is closed, after an error too');
is($idle->query('SELECT source FROM prompt_cache.get_or_build(2)'), 'redis', 'and opened when it is needed');
is(connected(), $open, 'again');
$idle->quit;

# Redis stands still (SIGSTOP).
my $deadline = 0.1;
$node->safe_psql('postgres', "ALTER SYSTEM SET prompt_cache.redis_timeout = '100ms'; ALTER SYSTEM SET prompt_cache.redis_url = '" . $redis->url . "'");
$node->reload;
sleep 0.5;
ok(settled(), 'Redis is well');
sql(q{CREATE FUNCTION timed(first int, last int) RETURNS SETOF float LANGUAGE plpgsql AS $$
    DECLARE
        began timestamptz;
    BEGIN
        FOR id IN first..last LOOP
            began := clock_timestamp();
            PERFORM prompt_cache.prompt(id);
            RETURN NEXT 1000 * extract(epoch FROM clock_timestamp() - began);
        END LOOP;
    END $$;
    SELECT count(prompt_cache.prompt(user_id)) FROM users;});
my $quantile = q{SELECT percentile_cont(%s) WITHIN GROUP (ORDER BY t) FROM generate_series(1, %d) n, timed(1, 60) t};
sub hits { return sql(sprintf "SELECT count(*) FROM timed(1, 60); $quantile", 0.5, 50) =~ s/.*\n//r; }
my $hit_before = hits();
$redis->signal('STOP');
my $hit_while = hits();
cmp_ok($hit_while, '<', 3 * $hit_before + 0.01, "the median hit in memory is what it was ($hit_before ms, then $hit_while ms)");
my @misses = split /\n/, sql("$off SELECT timed(1, 60)");
my @waited = grep { $_ > 1000 * $deadline * 0.8 } @misses;
my ($longest) = sort { $b <=> $a } @misses;
cmp_ok(scalar(@waited), '<=', 5, 'at most five lookups wait, and open the breaker');
cmp_ok(scalar(@waited), '>', 0, 'and some do');
cmp_ok($longest, '<', 1000 * $deadline + 250, "none for longer than one deadline (longest $longest ms)");
my @after = sort { $b <=> $a } split /\n/, sql("$off SELECT timed(1, 60)");
cmp_ok($after[5], '<', 1000 * $deadline / 2, "afterwards nobody does (longest $after[0] ms)");
$redis->signal('CONT');
ok(settled(), 'and it is used again');
is(sql("$off SELECT source FROM prompt_cache.get_or_build(2)"), 'redis', 'by lookups');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log');
$node->stop;
done_testing();
