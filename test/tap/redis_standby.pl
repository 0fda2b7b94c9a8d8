# A primary, its standby and one Redis: what one builds the other is given, and it is exact on both, under writers, while
# Redis is killed, stopped, emptied, set back, filled and failed over, on a standby that lags, after a promotion, and where
# a server that was set back goes on with the same Redis.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $primary = new_server('primary', "autovacuum = off\nprompt_cache.memory_ttl = '1s'\nprompt_cache.redis_timeout = '500ms'\nprompt_cache.redis_url = '" . $redis->tcp_url . "'\n", allows_streaming => 1);
load_chat($primary, 'chat');
load_watch($primary, 'chat');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $off = 'SET prompt_cache.memory = off; SET prompt_cache.database = off;';
my $exact = "SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) IS NOT DISTINCT FROM prompt_cache.build(user_id)) || ' of ' || count(*) FROM users";
my $sources = "SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) AS n FROM users, prompt_cache.get_or_build(user_id) GROUP BY 1) s";
sub on { my ($node, $sql) = @_; return $node->safe_psql('chat', $sql); }
sub remote { my ($node, $sql) = @_; return on($node, "$off $sql"); }
sub follow { $primary->wait_for_catchup($standby); return; }
sub used_again { my ($node, $when) = @_; return ok($node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'}), "$when: used again by " . $node->name); }

is(on($primary, 'SELECT prompt_cache.invalidation_channel()'), on($standby, 'SELECT prompt_cache.invalidation_channel()'), 'both have one scope');
is(on($standby, q{SELECT prompt_cache.health() #>> '{tiers,redis,state}'}), 'on', 'the standby has a Redis tier');

# Each is given what the other has built.
is(on($primary, $sources), 'built 60', 'the primary builds');
is(on($standby, $sources), 'redis 60', 'the standby is given it');
on($primary, q{UPDATE users SET system_prompt = 'first change' WHERE user_id <= 20});
follow();
like(on($standby, $sources), qr/^built 20, (memory|redis) 40$/, 'after a change the standby builds');
like(on($primary, $sources), qr/redis 20$|^redis 60$/, 'and the primary is given it');
is(on($_, $exact), '60 of 60', $_->name . ' is exact') for $primary, $standby;

# A load on both, while Redis suffers.
my @writes = (
    q{UPDATE users SET system_prompt = clock_timestamp()::text WHERE user_id = 1 + (random() * 50)::int},
    q{BEGIN; UPDATE users SET system_prompt = 'both' || clock_timestamp() WHERE user_id = 7; UPDATE tenants SET system_prompt = 'both' || clock_timestamp() WHERE id = 3; COMMIT},
    q{UPDATE users SET tenant_id = 1 + (random() * 4)::int WHERE user_id = 9},
    q{BEGIN; SAVEPOINT a; UPDATE users SET system_prompt = 'undone' WHERE user_id <= 50; ROLLBACK TO a; UPDATE users SET system_prompt = NULL WHERE user_id = 11; COMMIT},
    q{BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id < 20; ROLLBACK},
    q{SELECT prompt_cache._compact_nonces()},
    q{DELETE FROM users WHERE user_id = 60; INSERT INTO users VALUES (60, 1, 'again')});
sub load_both
{
    my ($name, $seconds, $pause, $disturb) = @_;
    my $rounds = int($seconds / $pause / @writes) + 1;
    my $work = join(";\n", map { "$_;\nSELECT pg_sleep($pause)" } (@writes) x $rounds) . ";\n";
    on($_, 'SELECT prompt_cache.stats_reset()') for $primary, $standby;
    my @readers = map { [ $_->name, start_session($_, 'chat', "CALL watch($seconds, 1, 60)") ] } $primary, $standby;
    my $writer = start_session($primary, 'chat', $work);
    $disturb->() if $disturb;
    for my $reader (@readers)
    {
        my ($out, $err) = finish_session($reader->[1]);
        my ($reads, $hits, $wrong) = split /\|/, $out;
        is($err, '', "$name: no trouble on the $reader->[0]");
        is($wrong, 0, "$name: every answer on the $reader->[0] was exact ($out)");
        cmp_ok($reads, '>', 1000, "$name: a lot was read");
        cmp_ok($hits, '>', $reads / 2, "$name: mostly from memory");
    }
    my (undef, $err) = finish_session($writer);
    is($err, '', "$name: the writer had no trouble");
    follow();
    return;
}
load_both('load', 8, 0.05);
for my $node ($primary, $standby)
{
    my ($misses, $answered, $built) = split /\|/, on($node, q{SELECT misses, hits_redis, builds FROM prompt_cache.stats WHERE namespace = 'prompt'});
    cmp_ok($answered, '>=', $misses / 5, $node->name . ": at least one miss in five was answered by Redis ($answered of $misses, $built layers built)");
}

load_both('Redis in trouble', 20, 0.05, sub {
    sleep 1;
    $redis->cli('SAVE');
    copy("$redis->{folder}/dump.rdb", "$redis->{folder}/older.rdb");
    $redis->cli('FLUSHALL');
    sleep 1;
    $redis->signal('STOP');
    sleep 2.5;
    $redis->signal('CONT');
    sleep 1.5;
    $redis->cli('CONFIG', 'SET', 'maxmemory', '1mb', 'maxmemory-policy', 'allkeys-random');
    $redis->cli('DEBUG', 'POPULATE', '10000', 'filler', '100');
    sleep 2;
    $redis->cli('CONFIG', 'SET', 'maxmemory', '0');
    $redis->stop;
    copy("$redis->{folder}/older.rdb", "$redis->{folder}/dump.rdb");
    sleep 1;
    $redis->start;
    sleep 2;
    # Failed over to a replica behind the same address: what was not replicated yet is lost.
    my $replica = RedisServer->new('--replicaof', '127.0.0.1', $redis->{port});
    sleep 2;
    $replica->cli('CONFIG', 'SET', 'port', '0');
    $redis->stop;
    $replica->cli('REPLICAOF', 'NO', 'ONE');
    $replica->cli('CONFIG', 'SET', 'port', $redis->{port});
    sleep 3;
    like($replica->cli('CLIENT', 'LIST'), qr/cmd=(get|set)/, 'the replica has taken over');
    $replica->stop;
    $redis->start;
});
used_again($_, 'after all that') for $primary, $standby;
is(remote($_, $exact), '60 of 60', $_->name . ' is exact after all that') for $primary, $standby;

# A standby that lags: what is built after a TRUNCATE under a snapshot of before it must not be taken there.
$redis->cli('FLUSHALL');
on($standby, 'SELECT pg_wal_replay_pause()');
my $old = $primary->background_psql('chat');
$old->query_safe("$off BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
on($primary, 'CREATE TABLE users_copy AS TABLE users; TRUNCATE users');
is($old->query_safe('SELECT source FROM prompt_cache.get_or_build(2)'), 'built', 'an old snapshot builds from what TRUNCATE has left');
is(remote($standby, $exact), '60 of 60', 'the standby, where nothing was truncated, takes none of it');
$old->query_safe('COMMIT');
on($primary, 'INSERT INTO users SELECT * FROM users_copy');
on($standby, 'SELECT pg_wal_replay_resume()');
follow();
is(remote($_, $exact), '60 of 60', $_->name . ': exact with its rows again') for $primary, $standby;

# The other way round: the standby builds under a snapshot of before the TRUNCATE, and a second one lags.
my $late = PostgreSQL::Test::Cluster->new('late');
$late->init_from_backup($primary, 'base', has_streaming => 1);
$late->start;
$primary->wait_for_catchup($late);
on($late, 'SELECT pg_wal_replay_pause()');
$redis->cli('FLUSHALL');
my $reader = $standby->background_psql('chat');
$reader->query_safe("$off BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
on($primary, 'TRUNCATE users');
follow();
my $seen = $reader->query_safe('SELECT source, prompt IS NULL FROM prompt_cache.get_or_build(2)');
is($seen, 'built|t', 'an old snapshot on the standby builds from what TRUNCATE has left');
is(remote($late, $exact), '60 of 60', 'the standby that lags takes none of it');
$reader->query_safe('COMMIT');
on($primary, 'INSERT INTO users SELECT * FROM users_copy');
follow();
on($late, 'SELECT pg_wal_replay_resume()');
$primary->wait_for_catchup($late);
is(remote($_, $exact), '60 of 60', $_->name . ': exact with its rows again') for $primary, $standby, $late;
$_->quit for $old, $reader;

# A server of another timeline, set back to the backup, with the same Redis: neither takes what only the other has seen.
on($primary, q{UPDATE users SET system_prompt = 'timeline one ' || user_id});
follow();
is(remote($primary, $exact), '60 of 60', 'the first timeline is exact, and has filled Redis');
my $back = PostgreSQL::Test::Cluster->new('set_back');
$back->init_from_backup($primary, 'base');
$back->start;
is($back->safe_psql('chat', 'SELECT prompt_cache.invalidation_channel()'), on($primary, 'SELECT prompt_cache.invalidation_channel()'), 'a server that was set back has the same names');
is(remote($back, $exact), '60 of 60', 'and takes nothing of the timeline that it has lost');
for my $round (1 .. 3)
{
    on($back, "UPDATE users SET system_prompt = 'timeline two $round ' || user_id");
    on($primary, "UPDATE users SET system_prompt = 'timeline one $round ' || user_id");
    is(remote($_, $exact), '60 of 60', "round $round of changes on both: " . $_->name . ' is exact') for $back, $primary;
}
$back->stop;

# Promotion, with a transaction prepared before it.
on($primary, q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id IN (52, 57); PREPARE TRANSACTION 'across'});
follow();
is(remote($standby, $exact), '60 of 60', 'before the promotion: exact');
$primary->stop('immediate');
$late->stop('immediate');
$standby->promote;
is(remote($standby, $exact), '60 of 60', 'promoted: exact');
on($standby, q{COMMIT PREPARED 'across'});
is(remote($standby, $exact), '60 of 60', 'after COMMIT PREPARED: exact');
on($standby, q{UPDATE users SET system_prompt = 'by the new primary' WHERE user_id < 30});
is(remote($standby, $exact), '60 of 60', 'after a change: exact');
is(remote($standby, $sources), 'redis 60', 'and answered by Redis');
is(on($standby, 'SELECT count(*) FROM prompt_cache.verify()'), '0', 'verify() finds nothing');

unlike(slurp_file($_->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log of ' . $_->name) for $primary, $standby, $late, $back;
$standby->stop;
done_testing();
