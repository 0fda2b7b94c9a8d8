# Builders for the shapes of chat backends that attach() does not fit (test/examples): several layers, membership in a join table, a layer
# in a key/value table, a layer from several columns. All their tables are written while everything is read.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use NamespaceLoad;

my $seconds = 4;
my $node = new_server('builders', "autovacuum = off\n");
sub pairs { my ($left, $right, $how) = @_; return "ARRAY(SELECT format('$how', a, b) FROM generate_series(1, $left) a, generate_series(1, $right) b)"; }
sub id { return 'id_of(' . shift() . ')'; }
my $uuids = 'ARRAY(SELECT ' . id('i') . '::text FROM generate_series(1, %s) i)';

my %shapes = (
    anythingllm => {
        keys => [ [ 'setting', q{'{default_system_prompt,telemetry_id,nothing}'} ], [ 'workspace', q{'{1,2,3,4}'} ], [ 'member', q{'{1,2,3,4,5,6}'} ],
            [ 'workspace_prompt', pairs(6, 4, '%s/%s') ] ],
        writes => [ q{UPDATE system_settings SET value = 'default ' || $4 WHERE label = 'default_system_prompt' AND $1 = 1},
            q{UPDATE system_settings SET value = $4::text WHERE label = 'telemetry_id'},
            q{UPDATE users SET bio = 'bio ' || $4 WHERE id = $1}, q{UPDATE users SET suspended = 1 - suspended WHERE id = $1}, q{UPDATE users SET "lastUpdatedAt" = clock_timestamp() WHERE id = $1},
            q{UPDATE workspaces SET "openAiPrompt" = CASE WHEN $2 < 3 THEN NULL WHEN $2 = 3 THEN '' ELSE 'prompt ' || $4 END WHERE id = 1 + $1 % 4},
            q{INSERT INTO workspace_users (user_id, workspace_id) VALUES ($1, 1 + $2 % 4)}, q{DELETE FROM workspace_users WHERE user_id = $1 AND workspace_id = 1 + $2 % 4},
            q{UPDATE workspace_users SET workspace_id = 1 + $3 % 4 WHERE user_id = $1 AND workspace_id = 1 + $2 % 4},
            [ q{UPDATE users SET bio = 'both ' || $4 WHERE id = $1}, q{UPDATE workspaces SET "openAiPrompt" = 'both ' || $4 WHERE id = 1 + $2 % 4} ] ],
    },
    dify => {
        keys => [ [ 'tenant_layer', sprintf $uuids, 3 ], [ 'app_layer', sprintf $uuids, 4 ], [ 'account_layer', sprintf $uuids, 6 ],
            [ 'app_prompt', 'ARRAY(SELECT ' . id('a') . q{ || '/' || } . id('b') . ' FROM generate_series(1, 6) a, generate_series(1, 4) b)' ] ],
        writes => [ 'UPDATE accounts SET last_active_at = clock_timestamp() WHERE id = ' . id('$1'), q{UPDATE accounts SET interface_language = 'language ' || $4 WHERE id = } . id('$1'),
            q{UPDATE accounts SET status = CASE status WHEN 'active' THEN 'banned' ELSE 'active' END WHERE id = } . id('$1'),
            q{UPDATE tenants SET custom_config = jsonb_build_object('instructions', $4) WHERE id = } . id('1 + $1 % 3'),
            # Switch to another tenant, as the application does it
            [ 'UPDATE tenant_account_joins SET current = false WHERE account_id = ' . id('$1'),
              'UPDATE tenant_account_joins SET current = true WHERE account_id = ' . id('$1') . ' AND tenant_id = ' . id('1 + $2 % 3') ],
            'DELETE FROM tenant_account_joins WHERE id = ' . id('10 * $1 + 1'), 'INSERT INTO tenant_account_joins VALUES (' . id('10 * $1 + 1') . ', ' . id('1') . ', ' . id('$1') . q{, 'owner', true) ON CONFLICT DO NOTHING},
            # A new version of an app's configuration, and back
            'UPDATE apps SET app_model_config_id = ' . id('10 * (1 + $1 % 4) + $2 % 3') . ' WHERE id = ' . id('1 + $1 % 4'),
            q{UPDATE app_model_configs SET pre_prompt = 'edited ' || $4 WHERE id = } . id('10 * (1 + $1 % 4) + $2 % 3'), 'UPDATE app_model_configs SET temperature = random() WHERE id = ' . id('10 * (1 + $1 % 4) + $2 % 3'),
            'UPDATE apps SET tenant_id = ' . id('1 + $2 % 3') . ' WHERE id = ' . id('1 + $1 % 4'), 'UPDATE apps SET updated_at = clock_timestamp()',
            q{SELECT prompt_cache.set_application_prompt('application ' || $4) WHERE $1 = 1} ],
    },
    chatwoot => {
        keys => [ [ 'installation', q{'{CAPTAIN_SYSTEM_PROMPT,INSTALLATION_VERSION}'} ], [ 'assistant', q{'{1,2,3}'} ], [ 'account', q{'{1,2,3}'} ], [ 'agent', pairs(6, 3, '%s/%s') ],
            [ 'captain_prompt', pairs(6, 4, '%s/%s') ] ],
        writes => [ q{UPDATE installation_configs SET serialized_value = jsonb_build_object('value', $4) WHERE name = CASE WHEN $1 = 1 THEN 'CAPTAIN_SYSTEM_PROMPT' ELSE 'INSTALLATION_VERSION' END},
            q{UPDATE accounts SET custom_attributes = jsonb_build_object('instructions', $4) WHERE id = 1 + $1 % 3}, q{UPDATE accounts SET status = 1 - status WHERE id = 1 + $1 % 3},
            q{UPDATE users SET last_sign_in_at = clock_timestamp() WHERE id = $1}, q{UPDATE users SET message_signature = nullif('signed ' || $4, 'signed 1') WHERE id = $1 AND $2 = 1},
            q{DELETE FROM account_users WHERE user_id = $1 AND account_id = 1 + $2 % 3}, q{INSERT INTO account_users (account_id, user_id) VALUES (1 + $2 % 3, $1) ON CONFLICT DO NOTHING}, q{UPDATE account_users SET active_at = clock_timestamp() WHERE user_id = $1},
            q{UPDATE captain_assistants SET config = jsonb_build_object('instructions', $4) WHERE id = 1 + $1 % 3}, q{UPDATE captain_assistants SET response_guidelines = jsonb_build_array($4, $2) WHERE id = 1 + $1 % 3},
            q{UPDATE captain_assistants SET guardrails = jsonb_build_array($4) WHERE id = 1 + $1 % 3}, q{UPDATE captain_assistants SET updated_at = clock_timestamp()},
            q{UPDATE captain_assistants SET account_id = 1 + $2 % 3 WHERE id = 1 + $1 % 3}, q{UPDATE captain_inboxes SET captain_assistant_id = 1 + $2 % 3 WHERE inbox_id = 1 + $1 % 4 AND $3 = 1} ],
    });

for my $shape (sort keys %shapes)
{
    my $sql = sub { return $node->safe_psql($shape, shift); };
    $node->safe_psql('postgres', "CREATE DATABASE $shape");
    $node->psql($shape, "ALTER DATABASE $shape SET search_path = $shape; CREATE EXTENSION prompt_cache;\n" . example($shape), on_error_die => 1);
    prepare_load($node, $shape, $shapes{$shape}{keys}, $shapes{$shape}{writes});
    my $filled = $sql->('SELECT count(f.value), bool_and(f.value IS NOT DISTINCT FROM prompt_cache.rebuild(k.namespace, k.key)) FROM load.keys k, prompt_cache.fetch_many(k.namespace, ARRAY[k.key]) f');
    like($filled, qr/^[1-9]\d+\|t$/, "$shape: there is something to read");
    my ($reads, $hits, $wrong, $commits) = run_load($node, $shape, $seconds, 0.01);
    is($wrong, '', "$shape: of $reads reads beside $commits commits none was wrong");
    cmp_ok($hits, '>', $reads / 2, "$shape: and most were hits ($hits)");
    cmp_ok($commits, '>', 20 * $seconds, "$shape: while all tables were written");
    is($sql->(q{SELECT string_agg(namespace, ',') FROM prompt_cache.namespaces WHERE unwatched <> '{}' OR NOT sound}), '', "$shape: nothing is read that nobody watches");
    is($sql->('SELECT count(*) FROM prompt_cache.verify(10000)'), 0, "$shape: verify() finds nothing");
}
$node->stop;

done_testing();
