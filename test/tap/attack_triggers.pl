# What a role can do to others with our trigger function, and with tables that it renames, drops or takes over while
# attach(), watch() and their like wait. Each case is an attack that succeeded once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('attacked', "autovacuum = off\n");
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
sub fails
{
    my ($role, $query, $expected, $name) = @_;
    my ($code, $out, $err) = $node->psql('chat', "SET ROLE $role; $query");
    like($err, $expected, $name);
    return;
}

# What it printed, or its errors.
sub as_role
{
    my ($role, $query) = @_;
    my ($code, $out, $err) = $node->psql('chat', "SET client_min_messages = error; SET ROLE $role; $query");
    return $err eq '' ? $out : $err;
}
sub warm { return sql('SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u'); }
sub in_memory { return sql(q{SELECT count(*) FROM generate_series(1, 60) u, prompt_cache.get_or_build(u) g WHERE g.source = 'memory'}); }

# A session that runs `sql` in a transaction and keeps it open until a row is in the table `go`.
sub hold
{
    my ($query) = @_;
    sql('TRUNCATE go');
    my $holder = start_session($node, 'chat', "SET application_name = 'holder'; BEGIN; $query CALL wait_for_go(); COMMIT;");
    $node->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'holder' AND wait_event = 'PgSleep'})
        or die 'the holder did not come so far';
    return $holder;
}
sub release
{
    my ($holder) = @_;
    sql('INSERT INTO go DEFAULT VALUES');
    finish_session($holder);
    return;
}

# `first` runs in a transaction that stays open until `second`, in another session, waits for one of its locks and `between`
# has run. Returns what `second` printed, and its errors.
sub held_while
{
    my ($first, $second, $between) = @_;
    my $holder = hold($first);
    my $waiter = start_session($node, 'chat', "SET application_name = 'waiter'; SET client_min_messages = error; $second");
    $node->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Lock'})
        or die 'it did not wait';
    sql($between) if $between;
    release($holder);
    return finish_session($waiter);
}
sub waits_then
{
    my ($first, $role, $second, $expected, $name) = @_;
    my ($out, $err) = held_while($first, "SET ROLE $role; $second");
    like($err, $expected, $name);
    return;
}

sql(q{
    CREATE TABLE go (told boolean);
    GRANT SELECT ON go TO PUBLIC;
    CREATE PROCEDURE wait_for_go() LANGUAGE plpgsql AS $$ BEGIN WHILE NOT EXISTS (SELECT FROM public.go) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$;
    CREATE ROLE backend; CREATE ROLE mallory; CREATE ROLE alice;
    SELECT prompt_cache.allow('backend');
    CREATE SCHEMA backend AUTHORIZATION backend; CREATE SCHEMA mallory AUTHORIZATION mallory; CREATE SCHEMA alice AUTHORIZATION alice;
    GRANT USAGE ON SCHEMA backend, mallory, alice TO PUBLIC;
    GRANT CREATE ON DATABASE chat TO mallory;
    GRANT USAGE ON SCHEMA prompt_cache TO mallory, alice;
    GRANT EXECUTE ON FUNCTION prompt_cache.attach, prompt_cache.detach, prompt_cache.watch, prompt_cache.unwatch,
          prompt_cache.create_namespace, prompt_cache.alter_namespace, prompt_cache.drop_namespace TO mallory, alice;
});

# A column of another type is not read as text, whatever the arguments say.
for my $arguments ("'namespaces', 'id'", "'wiring', ''", "'application', '', 'id'", "'user', 'id', 'id'", "'tenant', 'id', 'no column'",
    "'watch', 'n', 'id', 'id'", "'watch', 'n'", "'watch'", "'user'", '')
{
    as_role('backend', "CREATE TABLE backend.t (id bigint, u uuid); CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON backend.t FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed($arguments);
        CREATE TRIGGER s AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backend.t FOR EACH STATEMENT EXECUTE FUNCTION prompt_cache._source_changed($arguments)");
    warm();
    is(as_role('backend', 'INSERT INTO backend.t VALUES (4702111234474983745); UPDATE backend.t SET id = 1; DELETE FROM backend.t; TRUNCATE backend.t'), '', "arguments ($arguments): nothing happens");
    is(in_memory(), 60, '... and nothing is invalidated');
    as_role('backend', 'DROP TABLE backend.t');
}

# An expression in a trigger's arguments is not run with the rights of the table's owner.
sql(q{CREATE TABLE notes (id bigint PRIMARY KEY, body text); GRANT ALL ON notes TO backend; SELECT prompt_cache.create_namespace('ns'), prompt_cache.watch('notes', 'ns', 'id')});
as_role('backend', q{
    CREATE FUNCTION backend.evil(x text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN ALTER ROLE backend SUPERUSER; RETURN x; END $$;
    CREATE TRIGGER e1 AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('watch', 'ns', 'backend.evil(''x''::text)');
    CREATE TRIGGER e2 AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('user', 'id', 'backend.evil(body)');
    CREATE TRIGGER e3 AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('watch', 'ns', 'id', 'backend.evil(''x''::text)');
    INSERT INTO notes VALUES (1, 'a'), (2, 'b'); UPDATE notes SET body = 'c'});
is(sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'backend'"), 'f', 'no expression of a trigger ran as the owner of the table');
sql(q{SELECT prompt_cache.unwatch('notes', 'ns'); DROP TABLE notes});

# A partition of somebody else's: the expression runs as the owner of the table that was registered.
sql(q{CREATE TABLE parts (id bigint, body text) PARTITION BY LIST (id); ALTER TABLE parts OWNER TO alice});
is(as_role('alice', q{SELECT prompt_cache.watch('parts', 'ns', 'lower(body)')}), 't', 'the owner of a partitioned table watches it');
sql(q{CREATE TABLE mallory.part PARTITION OF parts FOR VALUES IN (1); ALTER TABLE mallory.part OWNER TO mallory});
is(as_role('mallory', q{INSERT INTO mallory.part VALUES (1, 'X')}), '', '... and a partition of another owner is written');
is(as_role('alice', q{CREATE TABLE alice.part PARTITION OF public.parts FOR VALUES IN (2)}), '', 'the owner adds a partition');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'alice.part'::regclass AND tgenabled = 'A'}), 1, '... with the trigger, ENABLE ALWAYS');
sql(q{SELECT prompt_cache.put('ns', 'x', 'old')});
as_role('mallory', q{UPDATE mallory.part SET body = 'Y'});
is(sql(q{SELECT found FROM prompt_cache.get('ns', 'x')}), 'f', 'a write to a partition of another owner invalidates');

# A temporary table, and somebody's own table: attach() does not wait for them, DROP EXTENSION does not depend on them.
fails('backend', q{CREATE TEMP TABLE t (id int); CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('user', 'id')},
    qr/cannot stand on a temporary table/, 'no trigger of ours stands on a temporary table');
as_role('backend', q{CREATE TABLE backend.held (id int); CREATE TRIGGER x AFTER INSERT ON backend.held FOR EACH ROW EXECUTE FUNCTION prompt_cache._source_changed('user', 'id', 'id')});
my $holder = hold('SET LOCAL ROLE backend; LOCK TABLE backend.held IN ACCESS EXCLUSIVE MODE; RESET ROLE;');
is(sql(q{SET lock_timeout = '5s'; SELECT prompt_cache.attach()}), 't', 'attach() does not wait for a table that is not registered');
is(sql(q{SET lock_timeout = '5s'; SELECT prompt_cache.detach(), prompt_cache.attach()}), 't|t', '... nor does detach()');
is(sql(q{SET lock_timeout = '5s'; SELECT prompt_cache.flush() >= 0}), 't', '... nor flush()');
release($holder);

# Nor does flush() wait for a lock that SQL can take.
$holder = hold('SET LOCAL ROLE backend; SELECT pg_advisory_xact_lock(8102661195421736803); RESET ROLE;');
is(sql(q{SET lock_timeout = '5s'; SELECT prompt_cache.flush() >= 0}), 't', 'flush() beside an advisory lock of anybody');
release($holder);

# Names of watches cannot collide.
sql(q{CREATE TABLE pipes (id int PRIMARY KEY, b int); SELECT prompt_cache.create_namespace('a'), prompt_cache.create_namespace('a|id')});
is(sql(q{SELECT prompt_cache.watch('pipes', 'a', 'id', '{b}'), prompt_cache.watch('pipes', 'a|id', 'b')}), 't|t', 'two watches whose arguments are the same when joined');

# Ownership is checked after the lock: who waited while the namespace, the builder or the table became somebody else's is refused.
sql(q{CREATE FUNCTION alice.perms(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'right' $$; ALTER FUNCTION alice.perms(text) OWNER TO alice});
as_role('mallory', q{CREATE FUNCTION mallory.evil(key text) RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'poison' $$});
waits_then(q{SET ROLE alice; SELECT prompt_cache.create_namespace('perms', 'alice.perms(text)'); RESET ROLE;}, 'mallory',
    q{SELECT prompt_cache.alter_namespace('perms', 'mallory.evil(text)');}, qr/must be owner of function perms/, 'alter_namespace() after create_namespace()');
is(sql(q{SELECT prompt_cache.fetch('perms', 'k')}), 'right', '... the namespace is who made it');
waits_then(q{SET ROLE alice; SELECT prompt_cache.create_namespace('perms2', 'alice.perms(text)'); RESET ROLE;}, 'mallory',
    q{SELECT prompt_cache.drop_namespace('perms2');}, qr/must be owner of function perms/, 'drop_namespace() after create_namespace()');
sql(q{CREATE TABLE mallory.users (user_id bigint PRIMARY KEY, system_prompt text); ALTER TABLE mallory.users OWNER TO mallory});
sql('SELECT prompt_cache.detach()');
waits_then(q{SELECT prompt_cache.attach();}, 'mallory', q{SELECT prompt_cache.attach('mallory.users', NULL);}, qr/must be owner of table public.users/, 'attach() after attach()');
waits_then(q{LOCK TABLE mallory.users; ALTER TABLE mallory.users OWNER TO alice;}, 'mallory', q{SELECT prompt_cache.watch('mallory.users', 'ns', 'user_id');},
    qr/must be owner of table mallory.users/, 'watch() of a table that is given away meanwhile');
sql(q{CREATE TABLE mallory.gone (id int); ALTER TABLE mallory.gone OWNER TO mallory});
waits_then(q{DROP TABLE mallory.gone;}, 'mallory', q{SELECT prompt_cache.watch('mallory.gone', 'ns');}, qr/does not exist/, 'watch() of a table that is dropped meanwhile');

# A namespace without a builder, or whose builder is gone, is changed by the role that made it alone; the caller's search_path
# does not make a builder disappear.
is(as_role('alice', q{SELECT prompt_cache.create_namespace('models')}), 't', 'a namespace without a builder');
fails('mallory', q{SELECT prompt_cache.alter_namespace('models', 'mallory.evil(text)')}, qr/must be owner of namespace "models"/, '... is not taken over');
fails('mallory', q{SELECT prompt_cache.drop_namespace('models')}, qr/must be owner of namespace "models"/, '... nor dropped');
as_role('mallory', q{CREATE TYPE mallory.text AS (x int)});
fails('mallory', q{SET search_path = mallory, pg_catalog; SELECT prompt_cache.alter_namespace('perms', 'mallory.evil(pg_catalog.text)')}, qr/must be owner of function perms/, 'a type named text does not hide the builder');
sql('DROP FUNCTION alice.perms(text)');
fails('mallory', q{SELECT prompt_cache.alter_namespace('perms', 'mallory.evil(text)')}, qr/must be owner of namespace "perms"/, 'a namespace whose builder is gone is not taken over');
is(as_role('alice', q{SELECT prompt_cache.drop_namespace('perms'), prompt_cache.drop_namespace('models')}), 't|t', 'the role that made them drops them');

# A name that leads elsewhere while the lock is waited for: the trigger is put on the table that was meant.
sql(q{CREATE SCHEMA admin; CREATE TABLE admin.orders (id int PRIMARY KEY, body text)});
as_role('mallory', q{CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, body text)});
my ($out, $err) = held_while(q{LOCK TABLE shop.orders;}, q{SET ROLE mallory; SELECT prompt_cache.watch('shop.orders', 'ns', 'id');},
    q{ALTER SCHEMA shop RENAME TO shop_before; ALTER SCHEMA admin RENAME TO shop});
is("$out|$err", 't|', 'watch() waits for its table');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.orders'::regclass}), 0, '... and puts no trigger on the one that took the name');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop_before.orders'::regclass AND tgenabled = 'A'}), 2, '... but both on the one that was meant');

# Triggers that somebody else left are nobody's obstacle.
is(sql(q{SELECT count(*) FROM generate_series(1, 60) u WHERE prompt_cache.prompt(u) IS NOT DISTINCT FROM prompt_cache.build(u)}), 60, 'prompts are exact');
is(sql('DROP EXTENSION prompt_cache; SELECT 1'), 1, 'DROP EXTENSION does not depend on the triggers of others');
$node->stop;
done_testing();
