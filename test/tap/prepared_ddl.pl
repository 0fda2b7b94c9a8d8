# Twenty prepared transactions with DDL: every tier answers while they are pending, also those who write, and when they are committed,
# in an order of their own, everything is exact.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $many = 20;
my $redis = RedisServer->new;
my $node = new_server('prepared', join("\n", 'autovacuum = off', 'max_prepared_transactions = 30', "prompt_cache.redis_url = '" . $redis->url . "'", "prompt_cache.redis_timeout = '10s'", ''));
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
sql(q{CREATE TABLE messages (body text);
    CREATE FUNCTION made(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT system_prompt FROM users WHERE user_id = key::bigint $$;
    SELECT prompt_cache.create_namespace('made', 'made(text)', redis => true), prompt_cache.watch('users', 'made', 'user_id')});

my $prompts = q{SELECT string_agg(DISTINCT source, ' ') FROM users, prompt_cache.get_or_build(user_id)};
my $values = q{SELECT string_agg(DISTINCT source, ' ') FROM prompt_cache.fetch_many('made', ARRAY(SELECT user_id::text FROM users))};
my $writes = q{BEGIN; INSERT INTO messages VALUES ('x');};
my ($no_memory, $no_table) = map { "SET prompt_cache.$_ = off;" } qw(memory database);
# Does the worker unlink what was just stored, it is built and stored again.
sub from_redis
{
    my ($query) = @_;
    for (1 .. 20) { return 'redis' if sql("$no_memory $no_table $query") eq 'redis'; }
    return sql("$no_memory $no_table $query");
}
sub all_is_exact
{
    my ($when) = @_;
    is(exact($node, 'chat'), '60 of 60', "$when: prompts are exact");
    is(sql(q{SELECT count(*) FROM prompt_cache.fetch_many('made', ARRAY(SELECT user_id::text FROM users)) f WHERE f.value IS DISTINCT FROM made(f.key)}), '0', "$when: values are exact");
    is(sql('SELECT count(*) FROM prompt_cache.verify()'), '0', "$when: verify() finds nothing");
    return;
}
sub all_tiers_answer
{
    my ($when) = @_;
    sql($prompts);
    sql($values);
    is(sql($prompts), 'memory', "$when: prompts from memory");
    is(sql($values), 'memory', "$when: values from memory");
    is(sql("$writes $prompts; COMMIT"), 'memory', "$when: prompts in a transaction that writes");
    is(sql("$writes $values; COMMIT"), 'memory', "$when: values in a transaction that writes");
    sql('SELECT prompt_cache.flush()');
    $redis->cli('FLUSHALL');
    is(sql("$no_memory $prompts"), 'database', "$when: prompts from the table");
    is(from_redis($prompts), 'redis', "$when: prompts from Redis");
    is(from_redis($values), 'redis', "$when: values from Redis");
    return;
}

all_tiers_answer('before');
for my $i (1 .. $many)
{
    sql("BEGIN; CREATE FUNCTION f$i() RETURNS int LANGUAGE sql AS 'SELECT 1'; PREPARE TRANSACTION 'ddl $i'");
    sql("CREATE FUNCTION g$i() RETURNS int LANGUAGE sql AS 'SELECT 1'") if $i % 5 == 0;
    all_tiers_answer("$i are prepared") if $i == 1 || $i == 5 || $i == $many;
}
all_is_exact('all are prepared');
sql(q{UPDATE users SET system_prompt = 'changed' WHERE user_id % 7 = 0});
all_is_exact('a change while they are');
my $ended = 0;
for my $i (shuffle(1 .. $many))
{
    sql(($i % 4 == 0 ? 'ROLLBACK' : 'COMMIT') . " PREPARED 'ddl $i'");
    all_tiers_answer(++$ended . ' have ended') if $ended % 7 == 1;
}
all_is_exact('all have ended');
all_tiers_answer('at the end');

# What they hide becomes visible with the commit, and not before.
sql(q{BEGIN; ALTER TABLE users DISABLE TRIGGER ALL; UPDATE users SET system_prompt = 'behind the back' WHERE user_id = 8; PREPARE TRANSACTION 'hidden'});
sql(q{BEGIN; CREATE OR REPLACE FUNCTION made(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'new ' || system_prompt FROM users WHERE user_id = key::bigint $$; PREPARE TRANSACTION 'replaced'});
all_tiers_answer('a change behind the triggers and another builder are prepared');
all_is_exact('the same');
sql(q{COMMIT PREPARED 'replaced'});
all_is_exact('the other builder');
sql(q{COMMIT PREPARED 'hidden'});
all_is_exact('the change behind the triggers');
like(answer($node, 'chat', 8), qr/behind the back/, 'it is seen');
$node->stop;
done_testing();
