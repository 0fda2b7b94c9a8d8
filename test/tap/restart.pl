# What memory held is answered from the table after a restart or a crash, unless it changed meanwhile;
# a server that does not preload the library builds every time and loses no change.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('restart', "restart_after_crash = on\n");
load_chat($node, 'chat');
my $prompt = "Application.\n\n--- Tenant Guidelines ---\nRules of tenant 3\n“be kind” 🙂\n\n--- User Preferences ---\nI am user 2\n— שלום";

is(answer($node, 'chat', 2), "built|$prompt", 'the first call builds');
is(answer($node, 'chat', 2), "memory|$prompt", 'the second finds it in memory');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');

ok($node->safe_psql('chat', 'SELECT prompt_cache.flush()') > 0, 'flush writes rows');
is($node->safe_psql('chat', 'SELECT prompt_cache.flush()'), '0', 'a second flush has nothing to write');
is($node->safe_psql('chat', 'SELECT count(DISTINCT user_key) FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL'),
    '60', 'one current row a user');

$node->restart;
is(answer($node, 'chat', 2), "database|$prompt", 'after a restart the table answers');
is(answer($node, 'chat', 2), "memory|$prompt", 'and memory from then on');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact after a restart');

# Changes that came after the flush
$node->safe_psql('chat', q{UPDATE users SET system_prompt = 'changed' WHERE user_id = 6;
    UPDATE tenants SET system_prompt = 'other rules' WHERE id = 4;
    UPDATE users SET last_login = now();
    BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id = 2; ROLLBACK;});
$node->restart;
is(answer($node, 'chat', 2), "database|$prompt", 'neither a rollback nor another column makes a row useless');
is(answer($node, 'chat', 6), "built|Application.\n\n--- User Preferences ---\nchanged", 'a user changed after the flush is built');
is(source_of($node, 'chat', 18), 'built', 'so is a user of a tenant changed after the flush');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');

# Crash of the whole server, with a change committed after the flush
$node->safe_psql('chat', 'SELECT prompt_cache.flush()');
$node->safe_psql('chat', q{UPDATE users SET system_prompt = 'just before the crash' WHERE user_id = 9});
$node->stop('immediate');
$node->start;
is(answer($node, 'chat', 2), "database|$prompt", 'after a crash the table answers');
like(answer($node, 'chat', 9), qr/^built\|.*just before the crash$/s, 'a change committed before the crash is not lost');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact after a crash');

# SIGKILL of one backend: the server starts again by itself, with an empty memory
is(source_of($node, 'chat', 2), 'memory', 'memory is filled again');
my $started = $node->safe_psql('chat', 'SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = $$checkpointer$$');
$node->psql('chat', q{DO $$ BEGIN PERFORM prompt_cache.prompt(2); EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); END $$});
$node->poll_query_until('chat', "SELECT max(backend_start) > '$started' FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    or die 'the server did not come back';
is(answer($node, 'chat', 2), "database|$prompt", 'after SIGKILL of a backend the table answers');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact after SIGKILL');

# Not preloaded
$node->safe_psql('chat', 'SELECT prompt_cache.flush()');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my ($out, $err) = ('', '');
$node->psql('chat', 'SELECT source FROM prompt_cache.get_or_build(2); SELECT source FROM prompt_cache.get_or_build(2)',
    stdout => \$out, stderr => \$err);
is($out, "built\nbuilt", 'not preloaded, every call builds');
is(scalar(() = $err =~ /NOTICE/g), 1, 'one NOTICE a backend says so');
like($err, qr/shared_preload_libraries/, 'and names the setting');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact when not preloaded');
$node->safe_psql('chat', q{UPDATE users SET system_prompt = 'not preloaded' WHERE user_id = 13});
is($node->safe_psql('chat', q{LOAD 'prompt_cache'; SELECT 1}), '1', 'LOAD works');
load_chat($node, 'late');
is(exact($node, 'late'), '60 of 60', 'CREATE EXTENSION and attach work when not preloaded');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'prompt_cache'");
$node->restart;
is(answer($node, 'chat', 2), "database|$prompt", 'preloaded again, the table answers');
like(answer($node, 'chat', 13), qr/^built\|.*not preloaded$/s, 'a change of the meantime is known');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact when preloaded again');
is(exact($node, 'late'), '60 of 60', 'those of the other database too');
is(source_of($node, 'late', 2), 'memory', 'which is cached now');

$node->stop;
done_testing();
