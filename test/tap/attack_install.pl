# CREATE EXTENSION into a schema that somebody has prepared: what lies in it, who may add to it, and what default
# privileges open must not reach the functions that run with the rights of the extension's owner.
use strict;
use warnings;
use ChatDatabase;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('install');
my $database = 'attack';
$node->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; CREATE ROLE other_superuser SUPERUSER; CREATE ROLE friend');
$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0; GRANT CREATE ON DATABASE $database TO mallory");

sub run_sql { return $node->safe_psql($database, $_[0]); }
sub as_mallory { return $node->psql($database, $_[0], extra_params => [ '-U', 'mallory' ]); }

# CREATE EXTENSION must raise 42P06; returns the hint.
sub refused
{
    my ($what) = @_;
    my ($code, $out, $err) = $node->psql($database, 'CREATE EXTENSION prompt_cache', extra_params => [ '-v', 'VERBOSITY=verbose' ]);
    like($err, qr/ERROR:  42P06: /, "refused: $what");
    run_sql('DROP EXTENSION IF EXISTS prompt_cache CASCADE') if $code == 0;
    return $err =~ /HINT:  (.*)/ ? $1 : '';
}

sub accepted
{
    my ($what) = @_;
    my ($code, undef, $err) = $node->psql($database, 'CREATE EXTENSION prompt_cache');
    is($err, '', "accepted: $what");
    return $code == 0;
}

# The attack: the owner of the schema waits for CREATE EXTENSION and adds a function that matches a call better.
as_mallory('CREATE SCHEMA prompt_cache');
my ($code) = $node->psql($database, 'CREATE EXTENSION prompt_cache');
as_mallory(q{
    CREATE FUNCTION prompt_cache._is_column(relation regclass, name text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        ALTER ROLE mallory SUPERUSER;
        RETURN true;
    END $$});
run_sql('CREATE TABLE users (user_id bigint PRIMARY KEY, system_prompt text)');
$node->psql($database, "SELECT prompt_cache.attach('users', NULL)");
is(run_sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', 'the owner of the schema is no superuser after attach()');
run_sql('ALTER ROLE mallory NOSUPERUSER; DROP EXTENSION IF EXISTS prompt_cache CASCADE; DROP SCHEMA prompt_cache CASCADE; DROP TABLE users');

# Whose schema it is.
as_mallory('CREATE SCHEMA prompt_cache');
run_sql(refused('a schema of a role that is no superuser'));
ok(accepted('after the statement in the hint'), 'the hint can be executed');
run_sql('DROP EXTENSION prompt_cache; DROP SCHEMA prompt_cache; CREATE SCHEMA prompt_cache AUTHORIZATION other_superuser');
accepted('a schema of another superuser');
run_sql('DROP EXTENSION prompt_cache');
accepted('the schema that an earlier installation has left');
run_sql('DROP EXTENSION prompt_cache; DROP SCHEMA prompt_cache; CREATE SCHEMA prompt_cache');
accepted('an empty schema of its own');
run_sql('DROP EXTENSION prompt_cache');

# What lies in it: [ CREATE, DROP ].
for my $object (
    [ 'FUNCTION prompt_cache.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$' ],
    [ 'PROCEDURE prompt_cache.p() LANGUAGE sql AS $$ SELECT 1 $$' ],
    [ 'AGGREGATE prompt_cache.a(int) (SFUNC = int4pl, STYPE = int)', 'AGGREGATE prompt_cache.a(int)' ],
    [ 'TABLE prompt_cache.t ()' ],
    [ 'VIEW prompt_cache.v AS SELECT 1 AS one', 'VIEW prompt_cache.v' ],
    [ 'MATERIALIZED VIEW prompt_cache.m AS SELECT 1 AS one', 'MATERIALIZED VIEW prompt_cache.m' ],
    [ 'SEQUENCE prompt_cache.s' ],
    [ 'TYPE prompt_cache.c AS (a int)', 'TYPE prompt_cache.c' ],
    [ q{TYPE prompt_cache.e AS ENUM ('a')}, 'TYPE prompt_cache.e' ],
    [ 'TYPE prompt_cache.shell' ],
    [ 'DOMAIN prompt_cache.d AS int', 'DOMAIN prompt_cache.d' ],
    [ 'OPERATOR prompt_cache.%% (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)', 'OPERATOR prompt_cache.%% (int, int)' ],
    [ 'OPERATOR FAMILY prompt_cache.f USING btree' ],
    [ q{COLLATION prompt_cache.c (LOCALE = 'C')}, 'COLLATION prompt_cache.c' ],
    [ q{CONVERSION prompt_cache.c FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1}, 'CONVERSION prompt_cache.c' ],
    [ 'TEXT SEARCH CONFIGURATION prompt_cache.c (COPY = simple)', 'TEXT SEARCH CONFIGURATION prompt_cache.c' ],
    [ 'TEXT SEARCH DICTIONARY prompt_cache.d (TEMPLATE = simple)', 'TEXT SEARCH DICTIONARY prompt_cache.d' ],
    [ 'TEXT SEARCH PARSER prompt_cache.p (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype)',
      'TEXT SEARCH PARSER prompt_cache.p' ],
    [ 'TEXT SEARCH TEMPLATE prompt_cache.t (LEXIZE = dsimple_lexize)', 'TEXT SEARCH TEMPLATE prompt_cache.t' ])
{
    my ($create, $drop) = @$object;
    ($drop) = $create =~ /^((?:OPERATOR FAMILY|\w+) \S+(?: USING btree)?)/ if !defined $drop;
    run_sql("CREATE $create");
    refused("there is $drop");
    run_sql("DROP $drop");
}
run_sql(q{CREATE TABLE public.t (a int, b int); CREATE STATISTICS prompt_cache.s ON a, b FROM public.t});
refused('there is a statistics object of a table elsewhere');
run_sql('DROP TABLE public.t');
run_sql('CREATE OPERATOR CLASS prompt_cache.o FOR TYPE int USING hash AS OPERATOR 1 =, FUNCTION 1 hashint4(int)');
refused('there is an operator class');
run_sql('DROP OPERATOR FAMILY prompt_cache.o USING hash');
run_sql('ALTER DEFAULT PRIVILEGES IN SCHEMA prompt_cache GRANT EXECUTE ON FUNCTIONS TO mallory');
refused('default privileges of the schema');
run_sql('ALTER DEFAULT PRIVILEGES IN SCHEMA prompt_cache REVOKE EXECUTE ON FUNCTIONS FROM mallory');

# Who may add to it.
for my $grantee ('mallory', 'PUBLIC')
{
    run_sql("GRANT CREATE ON SCHEMA prompt_cache TO $grantee");
    my $hint = refused("$grantee has CREATE on the schema");
    run_sql($hint) if $hint;
    ok(accepted('after the statement in the hint'), 'the hint can be executed');
    run_sql("DROP EXTENSION prompt_cache; REVOKE CREATE ON SCHEMA prompt_cache FROM $grantee");
}
run_sql('GRANT CREATE ON SCHEMA prompt_cache TO other_superuser; GRANT USAGE ON SCHEMA prompt_cache TO mallory');
accepted('CREATE of a superuser, USAGE of anybody');
run_sql('DROP EXTENSION prompt_cache; DROP SCHEMA prompt_cache');

# Default privileges of the role that creates the extension.
run_sql('ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO mallory');
my $hint = refused('default privileges give CREATE on new schemas');
run_sql($hint) if $hint;
ok(accepted('after the statement in the hint'), 'the hint can be executed');
run_sql('DROP EXTENSION prompt_cache; DROP SCHEMA prompt_cache; ALTER DEFAULT PRIVILEGES REVOKE CREATE ON SCHEMAS FROM mallory');

my $opened = q{
    SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, 0) || ' to ' || a.grantee::regrole, ', ')
      FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
      LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
      LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
     CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, c.relacl, t.typacl)) a
     WHERE e.extname = 'prompt_cache' AND a.grantee IN ('mallory'::regrole, 'friend'::regrole)};
run_sql(qq{ALTER DEFAULT PRIVILEGES GRANT $_ TO mallory WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT $_ TO friend})
    for 'EXECUTE ON FUNCTIONS', 'ALL ON TABLES', 'ALL ON SEQUENCES', 'USAGE ON TYPES', 'USAGE ON SCHEMAS';
accepted('default privileges on functions and tables');
is(run_sql($opened), '', 'default privileges open nothing of the extension');
run_sql('CREATE TABLE users (user_id bigint PRIMARY KEY, system_prompt text)');
is(run_sql(q{SELECT prompt_cache.attach('users', NULL)}), 't', 'it works');
is((as_mallory('SELECT * FROM prompt_cache.application'))[0], 3, 'no table can be read');
is((as_mallory('SELECT prompt_cache._detach()'))[0], 3, 'no internal function can be called');

$node->stop;
done_testing();
