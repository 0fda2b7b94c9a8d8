# The recipes of the README under load: all their tables are written at once, roles changed, granted and taken, users moved, and every
# fetch() is what rebuild() returns under the same snapshot.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use NamespaceLoad;

my $seconds = 6;
my $node = new_server('recipes', "autovacuum = off\n");
$node->safe_psql('postgres', 'CREATE DATABASE recipes');
sub sql { return $node->safe_psql('recipes', shift); }
my ($recipes) = example('recipes') =~ /^(.*?)^-- What was built/ms;
$node->psql('recipes', "CREATE EXTENSION prompt_cache;\n$recipes", on_error_die => 1);
my $permission = q{(ARRAY['chat.read', 'chat.write', 'chat.search', 'admin'])[1 + $2 % 4]};
my @changes = (
    # A role's definition
    "INSERT INTO role_permissions VALUES (1 + \$1 % 3, $permission) ON CONFLICT DO NOTHING",
    "DELETE FROM role_permissions WHERE role_id = 1 + \$1 % 3 AND permission = $permission",
    q{UPDATE roles SET name = CASE WHEN $2 > 3 THEN 'admin' ELSE 'role ' || $4 END WHERE id = 1 + $1 % 3},
    q{DELETE FROM roles WHERE id = 3}, q{INSERT INTO roles VALUES (3, 'back') ON CONFLICT DO NOTHING},
    # Roles granted and taken
    q{INSERT INTO user_roles VALUES (1 + $1 % 4, 1 + $2 % 3) ON CONFLICT DO NOTHING}, q{DELETE FROM user_roles WHERE user_id = 1 + $1 % 4 AND role_id = 1 + $2 % 3},
    q{UPDATE user_roles SET user_id = 1 + $1 % 4 WHERE user_id = 1 + $2 % 4 AND role_id = 1 + $3 % 3},
    # Users moved, renamed, deleted; what concerns nobody
    q{UPDATE users SET tenant_id = 3 - tenant_id WHERE id = 1 + $1 % 4}, q{UPDATE users SET email = $4 || '@example.org' WHERE id = 1 + $1 % 4},
    q{DELETE FROM users WHERE id = 4}, q{INSERT INTO users VALUES (4, 1 + $1 % 2, 'again ' || $4) ON CONFLICT DO NOTHING},
    q{UPDATE users SET last_seen = clock_timestamp() WHERE id = 1 + $1 % 4}, q{UPDATE menus SET clicks = clicks + 1 WHERE id = 1 + $1 % 4},
    # The rest
    q{UPDATE tenants SET name = 'tenant ' || $4 WHERE id = 1 + $1 % 2},
    q{UPDATE menus SET needs = CASE WHEN $2 > 4 THEN 'admin' ELSE 'chat.read' END WHERE id = 1 + $1 % 4},
    q{UPDATE models SET enabled = NOT enabled WHERE id = (ARRAY['small', 'large', 'other'])[1 + $1 % 3]},
    q{DELETE FROM user_settings WHERE user_id = 1 + $1 % 4 AND name = 'theme'},
    # Written through
    [ q{INSERT INTO user_settings VALUES (1 + $1 % 4, 'theme', $4::text) ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value},
      q{SELECT prompt_cache.put('user_config', (1 + $1 % 4)::text, prompt_cache.rebuild('user_config', (1 + $1 % 4)::text))} ]);
prepare_load($node, 'recipes',
    [ (map { [ $_, q{'{1,2,3,4}'} ] } qw(roles permissions menus users profiles user_config)), [ 'tenants', q{'{1,2}'} ],
      [ 'models', q{ARRAY['{}', '{"enabled": true}', '{"provider": "alpha"}']} ], [ 'general', q{'{seats/1,seats/2,role/admin}'} ] ],
    \@changes);

my ($reads, $hits, $wrong, $commits) = run_load($node, 'recipes', $seconds, 0.01);
is($wrong, '', "of $reads reads beside $commits commits none was wrong");
cmp_ok($hits, '>', $reads / 2, "and most were hits ($hits)");
cmp_ok($commits, '>', 20 * $seconds, 'while all tables were written');
is(sql(q{SELECT string_agg(namespace, ',') FROM prompt_cache.namespaces WHERE unwatched <> '{}' OR NOT sound}), '', 'nothing is read that nobody watches');
is(sql('SELECT count(*) FROM prompt_cache.verify(10000)'), 0, 'verify() finds nothing');
is(sql(q{SELECT string_agg(namespace, ',') FROM prompt_cache.stats WHERE lookups <> hits_memory + misses + bypasses}), '', 'the statistics add up');
# What was written through lies in memory for others to find.
is(sql(q{BEGIN; INSERT INTO user_settings VALUES (2, 'theme', 'through') ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value;
         SELECT prompt_cache.put('user_config', '2', prompt_cache.rebuild('user_config', '2')); COMMIT;
         SELECT source, value::jsonb ->> 'theme' FROM prompt_cache.fetch_many('user_config', '{2}')}), "t\nmemory|through", 'a configuration is written through');

# The same checker sees what a missing watch does.
sql(q{ALTER DATABASE recipes SET client_min_messages = warning; SELECT prompt_cache.unwatch('role_permissions', 'roles')});
(undef, undef, $wrong) = run_load($node, 'recipes', 3, 0.01);
like($wrong, qr/\(roles,/, 'without the watch of role_permissions it finds wrong roles');
like($wrong, qr/\((permissions|menus),/, 'and what is made of them');
$node->stop;

done_testing();
