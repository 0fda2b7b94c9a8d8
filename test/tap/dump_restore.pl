# A chat database restored from a dump works at once: builder, triggers and application prompt came along.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $source = new_server('source');
my $target = new_server('target');
my $folder = PostgreSQL::Test::Utils::tempdir();

# Each restores a dump of database "chat_$type" of the source into the target's database $database.
my %ways = (
    plain => sub {
        my ($from, $database, $file) = @_;
        $target->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
        $source->command_ok([ 'pg_dump', '-f', $file, $from ], "pg_dump of $from");
        is(join(' ', sort { $a cmp $b } slurp_file($file) =~ /^COPY prompt_cache\.(\w+)/mg), 'application attachment namespace reader watch', "$from: the wiring is dumped, and nothing that was cached");
        $target->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $file ], "restored into $database");
    },
    # Over a database that has everything already, with other contents.
    clean => sub {
        my ($from, $database, $file) = @_;
        load_chat($target, $database, $from =~ /uuid/ ? 'uuid' : 'bigint');
        $target->safe_psql($database, q{UPDATE users SET system_prompt = 'of before'; SELECT count(prompt_cache.prompt_key(user_id::text)) FROM users;
            SELECT prompt_cache.set_application_prompt('of before'); SELECT prompt_cache.flush()});
        $source->command_ok([ 'pg_dump', '--clean', '--if-exists', '-f', $file, $from ], "pg_dump --clean of $from");
        $target->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $file ], "restored into $database");
    },
    jobs => sub {
        my ($from, $database, $file) = @_;
        $target->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
        $source->command_ok([ 'pg_dump', '-Fd', '-j4', '-f', $file, $from ], "pg_dump -j4 of $from");
        $target->command_ok([ 'pg_restore', '-j4', '--exit-on-error', '-d', $database, $file ], "restored into $database");
    },
    # Triggers off while rows are loaded, and on again afterwards: which makes ALWAYS triggers ordinary ones.
    data_only => sub {
        my ($from, $database, $file) = @_;
        my $type = $from =~ /uuid/ ? 'uuid' : 'bigint';
        load_chat($target, $database, $type);
        $target->safe_psql($database, q{SELECT count(prompt_cache.prompt_key(user_id::text)) FROM users; SELECT prompt_cache.flush();
            TRUNCATE users, tenants});
        $source->command_ok([ 'pg_dump', '-Fc', '--data-only', '-t', 'users', '-t', 'tenants', '-f', $file, $from ], "pg_dump --data-only of $from");
        $target->command_ok([ 'pg_restore', '--disable-triggers', '--exit-on-error', '-d', $database, $file ], "restored into $database");
        $target->safe_psql($database, 'SELECT prompt_cache.flush()');
    });

my @databases;
for my $type (qw(bigint uuid))
{
    my $from = "chat_$type";
    load_chat($source, $from, $type);
    is(exact($source, $from), '60 of 60', "$from: all prompts are exact in the source");
    $source->safe_psql($from, q{SELECT prompt_cache.flush(); UPDATE users SET system_prompt = system_prompt || '!'});

    for my $way (sort keys %ways)
    {
        my $database = "${way}_$type";
        push @databases, [ $database, $type ];
        $ways{$way}->($from, $database, "$folder/$database");

        my $again = answer($source, $from, 2, $type) =~ s/^\w+\|//r;
        my $first = answer($target, $database, 2, $type) =~ s/^\w+\|//r;
        is($first, $again, "$database: the restored prompt is the source's");
        is(answer($target, $database, 2, $type), "memory|$again", "$database: asked twice, it is in memory");
        is(exact($target, $database), '60 of 60', "$database: all prompts are exact");
        is($target->safe_psql($database, q{
            SELECT count(*) > 0, string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger
            WHERE NOT tgisinternal AND tgrelid IN ('users'::regclass, 'tenants'::regclass)}),
            't|A', "$database: our triggers fire always");
        $target->safe_psql($database, 'SELECT prompt_cache.flush()');
    }
}

$target->restart;
for my $each (@databases)
{
    my ($database, $type) = @$each;
    is(source_of($target, $database, 2, $type), 'database', "$database: after flush and restart the table answers");
    is(source_of($target, $database, 2, $type), 'memory', "$database: and then memory");
    is(exact($target, $database), '60 of 60', "$database: all prompts are exact after the restart");
    my $key = key($type, 2);
    $target->safe_psql($database, "SET session_replication_role = replica; UPDATE users SET system_prompt = 'edited' WHERE user_id = '$key'");
    like(answer($target, $database, 2, $type), qr/^built\|.*edited$/s, "$database: an edit is seen, also one of a replica session");
}

# Where workers run, nobody has to call flush().
$target->append_conf('postgresql.conf', "prompt_cache.persist_naptime = '50ms'");
$target->reload;
$ways{data_only}->('chat_bigint', 'by_worker', "$folder/by_worker");
ok($target->poll_query_until('by_worker', q{SELECT string_agg(DISTINCT tgenabled::text, '') = 'A' FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid IN ('users'::regclass, 'tenants'::regclass)}), 'a worker turns the triggers back');
is(exact($target, 'by_worker'), '60 of 60', 'all prompts are exact');
is(source_of($target, 'by_worker', 2), 'memory', 'and cached');
ok($target->poll_query_until('by_worker', 'SELECT count(*) = 60 FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL AND cached_prompt = prompt_cache.build(user_id)'), 'and saved');

# A restored table has other column numbers where the dumped one had lost columns: names count, until they are noted anew.
$source->safe_psql('postgres', 'CREATE DATABASE moved TEMPLATE template0');
$source->safe_psql('moved', q{
    CREATE TABLE acc (gone int, id int PRIMARY KEY, uid int UNIQUE, title text);
    ALTER TABLE acc DROP COLUMN gone;
    INSERT INTO acc VALUES (1, 101, 'title');
    CREATE FUNCTION title_of(key text) RETURNS text STABLE LANGUAGE sql BEGIN ATOMIC SELECT title FROM acc WHERE id = key::int; END;
    CREATE EXTENSION prompt_cache;
    SELECT prompt_cache.create_namespace('titles', 'title_of(text)'), prompt_cache.watch('acc', 'titles', 'id', '{id,title}'), prompt_cache.attach(users => 'acc', tenants => NULL, user_key => 'id', user_prompt => 'upper(title)')});
my $numbers = q{SELECT string_agg(concat_ws(' ', trigger ~ 'watch', name, number), ',' ORDER BY trigger ~ 'watch', name) FROM prompt_cache.registered_column};
my $both_sound = 'SELECT n.sound, a.sound FROM prompt_cache.namespaces n, prompt_cache.attachments a';
is($source->safe_psql('moved', $numbers), 'f id 2,f title 4,t id 2,t title 4', 'the numbers of the columns that are named');
$ways{plain}->('moved', 'moved', "$folder/moved");
is($target->safe_psql('moved', $both_sound), 't|t', 'a restored database is sound');
ok($target->poll_query_until('moved', "SELECT ($numbers) = 'f id 1,f title 3,t id 1,t title 3'"), 'a worker notes the numbers that the columns have now');
is($target->safe_psql('moved', $both_sound), 't|t', 'and it stays sound');
is($target->safe_psql('moved', q{SELECT count(*) FROM prompt_cache.fetch_many('titles', '{1}') f WHERE f.value = 'title'}), 1, 'and answers');
$target->safe_psql('moved', 'ALTER TABLE acc RENAME id TO legacy_id; ALTER TABLE acc RENAME uid TO id');
is($target->safe_psql('moved', $both_sound), 'f|t', 'until another column takes a name: what reads by number may mean the other');
is($target->safe_psql('moved', 'SELECT n.problem IS NULL, a.problem IS NULL FROM prompt_cache.namespaces n, prompt_cache.attachments a'), 'f|f', 'which both report');

$source->stop;
$target->stop;
done_testing();
