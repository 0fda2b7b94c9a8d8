# The owner of a database, who is no superuser, dumps it and restores it; what a dump has of readers.
use strict;
use warnings;
use ChatDatabase;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{PGOPTIONS} = '-c client_min_messages=warning';
my $node = new_server('owner');
my $folder = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE backend LOGIN; CREATE ROLE gone; CREATE DATABASE chat OWNER app TEMPLATE template0');

sub as_role
{
    my ($role, $database, $sql) = @_;
    my ($out, $err) = ('', '');
    $node->psql($database, $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
    return "$out$err";
}
my @app = ('-U', 'app', '-h', $node->host, '-p', $node->port);

# All of README's rights of who owns tables and builders, and no more.
my $install = q{CREATE EXTENSION prompt_cache;
    GRANT USAGE ON SCHEMA prompt_cache TO app;
    GRANT EXECUTE ON FUNCTION prompt_cache.attach, prompt_cache.detach, prompt_cache.watch, prompt_cache.create_namespace TO app};
$node->safe_psql('chat', $install);
is(as_role('app', 'chat', q{
    CREATE SCHEMA app;
    CREATE TABLE app.tenants (id bigint PRIMARY KEY, system_prompt text);
    CREATE TABLE app.users (user_id bigint PRIMARY KEY, tenant_id bigint REFERENCES app.tenants, system_prompt text);
    INSERT INTO app.tenants VALUES (1, 'one'), (2, 'two');
    INSERT INTO app.users SELECT u, 1 + u % 2, 'user ' || u FROM generate_series(1, 10) u;
    CREATE FUNCTION app.prompt_of(key text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT system_prompt FROM app.users WHERE user_id = key::bigint $$;
    SELECT prompt_cache.attach('app.users', 'app.tenants');
    SELECT prompt_cache.create_namespace('own', 'app.prompt_of(text)');
    SELECT prompt_cache.watch('app.users', 'own', 'user_id')}), "t\nt\nt", 'the owner wires his tables');
$node->safe_psql('chat', q{SELECT prompt_cache.set_application_prompt('Application.'), prompt_cache.allow('backend'), prompt_cache.allow('gone')});
my $oid = $node->safe_psql('chat', q{SELECT 'gone'::regrole::oid});
$node->safe_psql('chat', 'DROP OWNED BY gone; DROP ROLE gone');
my $prompt = $node->safe_psql('chat', 'SELECT prompt_cache.build(3)');

# He dumps it.
$node->command_ok([ 'pg_dump', @app, '-Fc', '-f', "$folder/chat", 'chat' ], 'the owner of the database dumps it');
my ($script) = run_command([ 'pg_restore', '-f', '-', "$folder/chat" ]);
like($script, qr/^COPY prompt_cache.reader .*\nbackend\t\\N\n\\\.$/m, 'readers are dumped by name, without those that are gone');
is(as_role('app', 'chat', 'SELECT count(*) FROM prompt_cache.user_prompt_cache'), 'ERROR:  permission denied for table user_prompt_cache' =~ s/^/psql:<stdin>:1: /r,
    'he cannot read the prompts that were saved');

# A superuser restores all of it.
$node->safe_psql('postgres', 'CREATE DATABASE by_superuser OWNER app TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-h', $node->host, '-p', $node->port, '--exit-on-error', '-d', 'by_superuser', "$folder/chat" ], 'a superuser restores it');
is(as_role('backend', 'by_superuser', q{SELECT prompt_cache.prompt(3)}), $prompt, 'the backend reads prompts');
is(as_role('backend', 'by_superuser', q{SELECT prompt_cache.fetch('own', '3')}), 'user 3', 'and values');
is(as_role('app', 'by_superuser', q{UPDATE app.users SET system_prompt = 'new' WHERE user_id = 3}), '', 'the owner changes a row');
is(as_role('backend', 'by_superuser', q{SELECT prompt_cache.fetch('own', '3')}), 'new', 'and it is seen');
is($node->safe_psql('by_superuser', 'SELECT count(*) FROM prompt_cache.reader'), '1', 'there is one reader');

# The owner restores it where the extension is there already: all of it, with errors about what is not his, or his schema alone.
for my $database ('whole', 'own_schema')
{
    $node->safe_psql('postgres', "CREATE DATABASE $database OWNER app TEMPLATE template0");
    $node->safe_psql($database, $install);
    $node->command_ok([ 'pg_dump', @app, '-Fc', $database eq 'whole' ? () : ('-n', 'app'), '-f', "$folder/$database", 'chat' ], "$database: the owner dumps it");
    my (undef, $errors) = run_command([ 'pg_restore', @app, '-d', $database, "$folder/$database" ]);
    my $expected = $database eq 'whole' ? qr/schema "?prompt_cache|extension prompt_cache|permission denied for (table|function)/ : qr/nothing/;
    is(join("\n", grep { $_ !~ $expected } $errors =~ /ERROR:  (.*)/g), '', "$database: no errors but about the extension's objects");
    is($node->safe_psql($database, q{SELECT count(*), string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid IN ('app.users'::regclass, 'app.tenants'::regclass)}), '6|A', "$database: the triggers are back");
    # Restored triggers do nothing by themselves; they are replaced.
    is(as_role('app', $database, q{
        SELECT prompt_cache.attach('app.users', 'app.tenants');
        SELECT prompt_cache.create_namespace('own', 'app.prompt_of(text)');
        SELECT prompt_cache.watch('app.users', 'own', 'user_id')}), "t\nt\nt", "$database: the owner wires it anew");
    $node->safe_psql($database, q{SELECT prompt_cache.allow('backend'), prompt_cache.set_application_prompt('Application.')});
    is(as_role('backend', $database, q{SELECT prompt_cache.prompt(3)}), $prompt, "$database: prompts are right");
    is(as_role('backend', $database, q{SELECT prompt_cache.fetch('own', '3')}), 'user 3', "$database: and values");
    is(as_role('app', $database, q{UPDATE app.users SET system_prompt = 'new' WHERE user_id = 3}), '', "$database: the owner changes a row");
    is(as_role('backend', $database, q{SELECT prompt_cache.fetch('own', '3')}), 'new', "$database: and it is seen");
}

$node->stop;
done_testing();
