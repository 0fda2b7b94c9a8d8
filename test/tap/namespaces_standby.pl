# Namespaces on a hot standby, with a Redis that it shares with its primary, across its promotion and a restart: exact, nested values
# too; forgotten there what is forgotten on the primary; and values that an application puts stay where they were put.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $primary = new_server('primary', "autovacuum = off\nprompt_cache.redis_timeout = '500ms'\nprompt_cache.redis_url = '" . $redis->url . "'\n", allows_streaming => 1);
load_chat($primary, 'chat');
$primary->safe_psql('chat', q{
    CREATE TABLE role_permissions (role_id int, permission text, PRIMARY KEY (role_id, permission));
    CREATE TABLE user_roles (user_id bigint, role_id int, PRIMARY KEY (user_id, role_id));
    INSERT INTO role_permissions SELECT r, 'p' || p FROM generate_series(1, 5) r, generate_series(1, r) p;
    INSERT INTO user_roles SELECT u, 1 + u % 5 FROM generate_series(1, 40) u;
    CREATE FUNCTION role_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT string_agg(permission, ',' ORDER BY permission) FROM role_permissions WHERE role_id = key::int
    $$;
    CREATE FUNCTION permissions_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT string_agg(prompt_cache.fetch('roles', role_id::text), ';' ORDER BY role_id) FROM user_roles WHERE user_id = key::bigint
    $$;
    CREATE FUNCTION config_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
        SELECT prompt_cache.prompt(key::bigint) || ' / ' || prompt_cache.fetch('permissions', key)
    $$;
    SELECT prompt_cache.create_namespace('roles', 'role_of(text)', '1 hour'), prompt_cache.watch('role_permissions', 'roles', 'role_id');
    SELECT prompt_cache.create_namespace('permissions', 'permissions_of(text)', '1 hour'), prompt_cache.watch('user_roles', 'permissions', 'user_id');
    SELECT prompt_cache.create_namespace('configs', 'config_of(text)', '1 hour');
    SELECT prompt_cache.create_namespace('private', 'role_of(text)', '1 hour', redis => false), prompt_cache.watch('role_permissions', 'private', 'role_id');
    SELECT prompt_cache.create_namespace('models');
    CREATE ROLE reader;
    SELECT prompt_cache.allow('reader', 'roles');
});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

sub on { my ($node, $sql) = @_; return $node->safe_psql('chat', $sql); }
sub change { on($primary, shift); $primary->wait_for_catchup($standby); return; }

# How many keys of a namespace come from where; and that all are what a rebuild gives, under one snapshot.
sub sources
{
    my ($node, $space, $last) = @_;
    return on($node, "SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) AS n
        FROM prompt_cache.fetch_many('$space', ARRAY(SELECT i::text FROM generate_series(1, $last) i)) GROUP BY 1) s");
}
sub exact
{
    my ($when) = @_;
    for my $node ($primary, $standby)
    {
        my $wrong = on($node, q{SELECT count(*) FROM unnest('{roles,permissions,configs,private}'::text[]) space, generate_series(1, 40) i
            WHERE prompt_cache.fetch(space, i::text) IS DISTINCT FROM prompt_cache.rebuild(space, i::text)});
        is($wrong, 0, "$when: exact on " . $node->name);
    }
    return;
}

is(sources($primary, 'permissions', 40), 'built 40', 'the primary builds');
is(sources($primary, 'permissions', 40), 'memory 40', 'and has them in memory');
is(sources($standby, 'permissions', 40), 'redis 40', 'the standby is given them');
is(sources($standby, 'permissions', 40), 'memory 40', 'and has them in memory then');
is(sources($standby, 'roles', 5), 'redis 5', 'so are those that these were made of');
is(sources($standby, 'configs', 40), 'built 40', 'the standby builds what nobody has asked for');
is(sources($primary, 'configs', 40), 'redis 40', 'and the primary is given it');
is(sources($primary, 'private', 5), 'built 5', 'a namespace that is not for Redis');
is(sources($standby, 'private', 5), 'built 5', 'is built by each');
is(sources($standby, 'private', 5), 'memory 5', 'and cached by each');
exact('at first');

# Changes, of an inner value too
change(q{INSERT INTO role_permissions VALUES (2, 'p9')});
is(sources($standby, 'permissions', 40), 'built 8, memory 32', 'a role\'s change ends what was made of it, there too');
is(sources($standby, 'configs', 40), 'built 8, memory 32', 'and what was made of that');
is(sources($primary, 'permissions', 40), 'memory 32, redis 8', 'the primary is given what the standby has built');
change(q{UPDATE users SET system_prompt = 'changed' WHERE user_id = 7});
is(sources($standby, 'configs', 40), 'built 1, memory 39', 'a prompt\'s change ends what was made of it');
change(q{DELETE FROM user_roles WHERE user_id = 8; UPDATE user_roles SET role_id = 1 WHERE user_id = 9});
is(sources($standby, 'permissions', 40), 'built 2, memory 38', 'a user\'s roles');
exact('after changes');

# What is forgotten on the primary is forgotten on the standby, and in Redis.
my $from_memory = on($standby, q{SELECT count(*) FROM prompt_cache.fetch_many('permissions', '{10,11,20}') WHERE source = 'memory'});
is($from_memory, 3, 'three keys are in the standby\'s memory');
change(q{SELECT prompt_cache.forget_prefix('permissions', '1')});
is(on($standby, q{SELECT source FROM prompt_cache.fetch_many('permissions', '{10}')}), 'built', 'forget_prefix() reaches the standby');
change(q{SELECT prompt_cache.forget_namespace('roles')});
is(sources($standby, 'roles', 5), 'built 5', 'so does forget_namespace()');
is(on($standby, q{SELECT source FROM prompt_cache.fetch_many('permissions', '{20}')}), 'built', 'with all that is made of its values');
exact('after forgetting');

# Values of an application, rights, and what a standby cannot do
is(on($primary, q{SELECT prompt_cache.put('models', 'm', 'v')}), 't', 'a value is put on the primary');
is(on($primary, q{SELECT value FROM prompt_cache.get('models', 'm')}), 'v', 'and found there');
is(on($standby, q{SELECT found FROM prompt_cache.get('models', 'm')}), 'f', 'not on the standby');
is(on($standby, q{SELECT prompt_cache.put('models', 'm', 'v', lease => prompt_cache.lease('models', 'm'))}), 'f', 'where nothing can be put');
is(on($standby, q{SELECT prompt_cache.lease('models', 'm') IS NULL}), 't', 'nor is a lease given');
my (undef, undef, $refused) = $standby->psql('chat', q{SELECT prompt_cache.forget('roles', '1')});
like($refused, qr/cannot execute prompt_cache.forget\(\) in a read-only transaction/, 'nor forgotten');
is(on($standby, q{SET ROLE reader; SELECT prompt_cache.fetch('roles', '1')}), 'p1', 'a reader reads on the standby');
(undef, undef, $refused) = $standby->psql('chat', q{SET ROLE reader; SELECT prompt_cache.fetch('permissions', '1')});
like($refused, qr/permission denied for namespace "permissions"/, 'but not what he may not');
change(q{SELECT prompt_cache.deny('reader', 'roles')});
(undef, undef, $refused) = $standby->psql('chat', q{SET ROLE reader; SELECT prompt_cache.fetch('roles', '1')});
like($refused, qr/permission denied/, 'nor what he might before');

# A namespace that is changed, a restart, a promotion
change(q{SELECT prompt_cache.alter_namespace('roles', ttl => '2 hours')});
is(sources($standby, 'roles', 5), 'built 5', 'a namespace that was altered begins anew');
change(q{CREATE OR REPLACE FUNCTION role_of(key text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'now ' || string_agg(permission, ',' ORDER BY permission) FROM role_permissions WHERE role_id = key::int
$$});
like(on($standby, q{SELECT prompt_cache.fetch('permissions', '1')}), qr/^now /, 'so does one whose builder is another');
exact('after a new builder');
$standby->restart;
like(sources($standby, 'permissions', 40), qr/^redis \d+$|^built \d+, redis \d+$/, 'a restarted standby finds them in Redis');
exact('after a restart');
$primary->stop;
$standby->promote;
is(on($standby, q{SELECT count(*) FROM unnest('{roles,permissions,configs,private}'::text[]) space, generate_series(1, 40) i
    WHERE prompt_cache.fetch(space, i::text) IS DISTINCT FROM prompt_cache.rebuild(space, i::text)}), 0, 'after the promotion: exact');
on($standby, q{INSERT INTO role_permissions VALUES (1, 'promoted')});
like(on($standby, q{SELECT prompt_cache.fetch('permissions', '5')}), qr/promoted/, 'after the promotion: a change is seen');
is(on($standby, q{SELECT prompt_cache.put('models', 'm', 'v2', lease => prompt_cache.lease('models', 'm'))}), 't', 'after the promotion: a value can be put');
is(on($standby, q{SELECT value FROM prompt_cache.get('models', 'm')}), 'v2', 'after the promotion: and found');
is(on($standby, 'SELECT count(*) FROM prompt_cache.verify()'), 0, 'after the promotion: verify() finds nothing');
$standby->stop;
$redis->stop;
done_testing();
