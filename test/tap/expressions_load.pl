# A prompt deep in a json, in a table that is written a thousand times a second for other reasons: nothing is emptied and nothing
# is lost. And expressions over a dump, a restart, and DDL where the library is not preloaded.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $seconds = 5;
my $node = new_server('expressions', undef, allows_streaming => 1);
my $folder = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', 'CREATE DATABASE webui');
sub sql { return $node->safe_psql('webui', shift); }
sql(q{
    CREATE TABLE "group" (id text PRIMARY KEY, description text, deleted_at timestamptz);
    CREATE TABLE "user" (id text PRIMARY KEY, name text, group_id text, settings json, last_active_at bigint DEFAULT 0);
    INSERT INTO "group" SELECT 'g' || g, 'rules ' || g FROM generate_series(1, 5) g;
    INSERT INTO "user" SELECT 'u' || u, 'User ' || u, 'g' || 1 + u % 5, json_build_object('ui', json_build_object('system', 'version 0'), 'n', 0)
      FROM generate_series(1, 100) u;
    CREATE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (old)' $$;
    CREATE EXTENSION prompt_cache;
    SELECT prompt_cache.attach('"user"', '"group"', user_tenant => 'group_id', user_prompt => $$settings->'ui'->>'system'$$,
                               tenant_prompt => 'CASE WHEN deleted_at IS NULL THEN description END');

    -- Reads everybody over and over and compares with tables and build(): "reads|hits|wrong".
    CREATE PROCEDURE watch(seconds float, INOUT reads bigint DEFAULT 0, INOUT hits bigint DEFAULT 0, INOUT wrong bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    DECLARE
        seen  record;
        final timestamptz := clock_timestamp() + seconds * interval '1 s';
    BEGIN
        WHILE clock_timestamp() < final LOOP
            SELECT count(*) AS reads, count(*) FILTER (WHERE p.source = 'memory') AS hits,
                   count(*) FILTER (WHERE p.prompt IS DISTINCT FROM prompt_cache.build_key(u.id) OR p.prompt IS DISTINCT FROM
                       coalesce(E'--- Tenant Guidelines ---\n' || CASE WHEN g.deleted_at IS NULL THEN g.description END || E'\n\n', '')
                       || E'--- User Preferences ---\n' || (u.settings->'ui'->>'system')) AS wrong
              INTO seen FROM "user" u JOIN "group" g ON g.id = u.group_id CROSS JOIN LATERAL prompt_cache.get_or_build_key(u.id) p;
            reads := reads + seen.reads;
            hits := hits + seen.hits;
            wrong := wrong + seen.wrong;
            COMMIT;
            PERFORM pg_sleep(0.005);
        END LOOP;
    END $$;

    -- Edits prompts, and keys beside them, and groups; each prompt must be there after its commit: "edits|lost".
    CREATE PROCEDURE edit(seconds float, INOUT edits bigint DEFAULT 0, INOUT lost bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    DECLARE
        who   text;
        final timestamptz := clock_timestamp() + seconds * interval '1 s';
    BEGIN
        WHILE clock_timestamp() < final LOOP
            who := 'u' || 1 + edits % 100;
            edits := edits + 1;
            UPDATE "user" SET settings = json_build_object('ui', json_build_object('system', 'version ' || edits), 'n', edits) WHERE id = who;
            COMMIT;
            lost := lost + (prompt_cache.prompt_key(who) !~ ('version ' || edits || '$'))::int;
            UPDATE "user" SET settings = json_build_object('ui', json_build_object('system', 'version ' || edits), 'n', -edits) WHERE id = who;
            IF edits % 10 = 0 THEN
                UPDATE "group" SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END WHERE id = 'g' || 1 + edits / 10 % 5;
            END IF;
            COMMIT;
            PERFORM pg_sleep(0.005);
        END LOOP;
    END $$});
my $invalidations = q{SELECT invalidations FROM prompt_cache.stats WHERE namespace = 'prompt'};
append_to_file("$folder/active.sql", qq{\\set u random(1, 100)\nUPDATE "user" SET last_active_at = last_active_at + 1 WHERE id = 'u' || :u;\n});
my @active = ($node->installed_command('pgbench'), '-h', $node->host, '-p', $node->port, '-n', '-M', 'prepared', '-c', '4', '-j', '2', '-R', '1000', '-T', $seconds, '-f', "$folder/active.sql", 'webui');

# Two of each, so that hits of one reader are hits of another's entry, too.
sub together
{
    my @calls = @_;
    my ($out, $err) = ('', '');
    my $writers = IPC::Run::start(\@active, '>', \$out, '2>', \$err);
    my @sessions = map { start_session($node, 'webui', $_) } @calls;
    my @answers = map { (finish_session($_))[0] } @sessions;
    $writers->finish or diag($err);
    my ($done) = $out =~ /transactions actually processed: (\d+)/;
    cmp_ok($done, '>', 500 * $seconds, "last_active_at was written $done times");
    return @answers;
}

# Only last_active_at
sql('SELECT count(prompt_cache.prompt_key(id)) FROM "user"');
my $before = sql($invalidations);
my ($one, $two) = together("CALL watch($seconds)", "CALL watch($seconds)");
is(sql($invalidations), $before, 'nothing was emptied');
for my $answer ($one, $two)
{
    my ($reads, $hits, $wrong) = split /\|/, $answer;
    is($wrong, 0, "of $reads reads none was wrong");
    is($hits, $reads, 'and all were hits');
}
is(sql('SELECT sum(last_active_at) > 0 FROM "user"'), 't', 'the column has moved');

# And edits
my ($watched, $edited) = together("CALL watch($seconds)", "CALL edit($seconds)");
my ($reads, $hits, $wrong) = split /\|/, $watched;
is($wrong, 0, "of $reads reads, $hits hits, none was wrong");
cmp_ok($hits, '>', $reads / 2, 'most were hits');
my ($edits, $lost) = split /\|/, $edited;
is($lost, 0, "of $edits edits none was lost");
cmp_ok(sql($invalidations) - $before, '<=', 1.2 * $edits, 'and a key beside the prompt empties nothing');
is(sql('SELECT count(*) FROM prompt_cache.verify(1000)'), 0, 'verify() finds nothing');

# Over a dump
sql(q{SELECT prompt_cache.attach('"user"', '"group"', user_tenant => 'group_id', user_prompt => 'signed(name)',
                                 tenant_prompt => $$CASE WHEN deleted_at IS NULL THEN description || E'\\\\' || '''' END$$)});
my $look = q{SELECT source, right(prompt, 12), prompt = prompt_cache.build_key('u7') FROM prompt_cache.get_or_build_key('u7')};
is(sql($look), 'built|User 7 (old)|t', 'a function of the user\'s');
$node->command_ok([ 'pg_dump', '-f', "$folder/dump", 'webui' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', "$folder/dump" ], 'restored');
my $sound = 'SELECT sound, problem IS NULL, user_prompt, tenant_prompt FROM prompt_cache.attachments';
is($node->safe_psql('restored', $sound), sql($sound), 'the expressions came along, and triggers that fit them');
like(sql($sound), qr/^t\|t\|public.signed\(name\)\|/, 'and are sound');
is($node->safe_psql('restored', $look), 'built|User 7 (old)|t', 'the prompt is built');
is($node->safe_psql('restored', $look), 'memory|User 7 (old)|t', 'and then in memory');
$node->safe_psql('restored', q{UPDATE "user" SET name = 'Seven' WHERE id = 'u7'});
is($node->safe_psql('restored', $look), "built|\nSeven (old)|t", 'an edit is seen');
$node->safe_psql('restored', q{CREATE OR REPLACE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (new)' $$});
is($node->safe_psql('restored', $look), "built|\nSeven (new)|t", 'and another function');

# On a standby: an open transaction has locked the table before, so that nothing makes it hear of the new function.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
like($standby->safe_psql('webui', $look), qr/^(built|database)\|User 7 \(old\)\|t$/, 'a standby reads the prompt');
is($standby->safe_psql('webui', $look), 'memory|User 7 (old)|t', 'and remembers');
my $open = $standby->background_psql('webui');
$open->query_safe('BEGIN');
is($open->query_safe($look), 'memory|User 7 (old)|t', 'a transaction begins');
sql(q{CREATE OR REPLACE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (far)' $$});
$node->wait_for_catchup($standby);
is($standby->safe_psql('webui', q{SELECT right(prompt_cache.prompt_key('u8'), 12)}), 'User 8 (far)', 'the function is replaced there, too');
$open->query_safe($look);
$open->query_safe('COMMIT');
$open->quit;
like($standby->safe_psql('webui', $look), qr/^(built|memory)\|User 7 \(far\)\|t$/, 'what it built is nobody\'s who sees the new one');
$standby->stop;
sql(q{CREATE OR REPLACE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (old)' $$});
is(sql($look), 'built|User 7 (old)|t', 'back again');

# Over a restart
sql('SELECT prompt_cache.flush()');
$node->restart;
is(sql($look), 'database|User 7 (old)|t', 'after a restart the table answers');
sql(q{CREATE OR REPLACE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (two)' $$});
is(sql($look), 'built|User 7 (two)|t', 'until the function is another');
sql('SELECT prompt_cache.flush()');
$node->restart;
is(sql($look), 'database|User 7 (two)|t', 'whose prompts the table has then');

# A function replaced, and a row changed, where the library is not preloaded.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
sql(q{CREATE OR REPLACE FUNCTION signed(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT t || ' (off)' $$});
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'prompt_cache'\n");
$node->restart;
is(sql($look), 'built|User 7 (off)|t', 'a function that was replaced meanwhile is known');

$node->stop;
done_testing();
