# The fill race of builders outside of the database, under load: clients take a lease, read, are overtaken by commits, and put what they have
# read. Nobody may ever get a value that is not what his snapshot sees. The checker is tested too: it must see what goes wrong without
# leases, and without the rule that a lease's put needs every writer complete.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my @rules = split ' ', $ENV{PROMPT_CACHE_RULES};
my ($lease_whole) = map { 1 << $_ } grep { $rules[$_] eq 'LeaseWhole' } 0 .. $#rules;
my $node = new_server('lease', "autovacuum = off\n", install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
$node->safe_psql('postgres', 'CREATE DATABASE lease');
sub sql { return $node->safe_psql('lease', shift); }

# A value is made of a row that is watched by the key, and of one that is named by a tag.
sql(q{
    CREATE EXTENSION prompt_cache;
    CREATE TABLE items (id int PRIMARY KEY, v text);
    CREATE TABLE groups (id int PRIMARY KEY, v text);
    INSERT INTO items SELECT i, 'item' FROM generate_series(1, 8) i;
    INSERT INTO groups SELECT g, 'group' FROM generate_series(0, 2) g;
    CREATE FUNCTION truth(k int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT i.v || '/' || g.v FROM items i JOIN groups g ON g.id = k % 3 WHERE i.id = k $$;
    SELECT prompt_cache.create_namespace('names', ttl => '1 h'), prompt_cache.watch('items', 'names', 'id');

    -- "puts|of them stored": lease, read and put in transactions of their own, every third time in one.
    CREATE PROCEDURE fill(seconds float, leased boolean, INOUT puts bigint DEFAULT 0, INOUT stored bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    DECLARE
        final timestamptz := clock_timestamp() + seconds * interval '1 s';
        k int;
        lease bigint;
        value text;
    BEGIN
        WHILE clock_timestamp() < final LOOP
            k := 1 + floor(random() * 8);
            IF NOT (prompt_cache.get('names', k::text)).found THEN
                IF leased THEN lease := prompt_cache.lease('names', k::text); END IF;
                IF puts % 3 > 0 THEN COMMIT; END IF;
                IF lease IS NOT NULL OR NOT leased THEN
                    IF puts % 2 = 0 THEN PERFORM pg_sleep(random() * 0.006); END IF;
                    value := truth(k);
                    IF puts % 3 > 0 THEN COMMIT; END IF;
                    IF puts % 5 > 2 THEN PERFORM pg_sleep(random() * 0.006); END IF;
                    stored := stored + prompt_cache.put('names', k::text, value, tags => ARRAY['group/' || k % 3], lease => lease)::int;
                    puts := puts + 1;
                END IF;
            END IF;
            COMMIT;
            PERFORM pg_sleep(0.001);
        END LOOP;
    END $$;

    CREATE PROCEDURE change(seconds float, INOUT commits bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    DECLARE
        final timestamptz := clock_timestamp() + seconds * interval '1 s';
        k int;
    BEGIN
        WHILE clock_timestamp() < final LOOP
            k := 1 + floor(random() * 8);
            IF random() < 0.7 THEN
                UPDATE items SET v = 'item ' || clock_timestamp() WHERE id = k;
            ELSE
                UPDATE groups SET v = 'group ' || clock_timestamp() WHERE id = k % 3;
                PERFORM prompt_cache.forget_tag('group/' || k % 3);
            END IF;
            PERFORM pg_sleep(random() * 0.008);
            IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
            commits := commits + 1;
            PERFORM pg_sleep(0.012);
        END LOOP;
    END $$;

    -- "reads|hits|wrong"; two of three transactions are REPEATABLE READ and some of them old.
    CREATE PROCEDURE check_all(seconds float, INOUT reads bigint DEFAULT 0, INOUT hits bigint DEFAULT 0, INOUT wrong bigint DEFAULT 0) LANGUAGE plpgsql AS $$
    DECLARE
        final timestamptz := clock_timestamp() + seconds * interval '1 s';
        seen record;
        rounds int := 0;
    BEGIN
        WHILE clock_timestamp() < final LOOP
            rounds := rounds + 1;
            PERFORM set_config('default_transaction_isolation', CASE rounds % 3 WHEN 0 THEN 'read committed' ELSE 'repeatable read' END, false);
            COMMIT;
            FOR i IN 1..8 LOOP
                SELECT count(*) AS reads, count(*) FILTER (WHERE g.found) AS hits, count(*) FILTER (WHERE g.found AND g.value IS DISTINCT FROM truth(k)) AS wrong
                  INTO seen FROM generate_series(1, 8) k, prompt_cache.get('names', k::text) g;
                reads := reads + seen.reads;
                hits := hits + seen.hits;
                wrong := wrong + seen.wrong;
                PERFORM pg_sleep(0.002);
            END LOOP;
        END LOOP;
    END $$});

# (reads, found, wrong, puts, stored, commits, errors)
sub play
{
    my ($seconds, $leased) = @_;
    my @fillers = map { start_session($node, 'lease', "CALL fill($seconds, $leased)") } 1 .. 3;
    my @writers = map { start_session($node, 'lease', "CALL change($seconds)") } 1 .. 2;
    my @checkers = map { start_session($node, 'lease', "CALL check_all($seconds)") } 1 .. 2;
    my $errors = '';
    my @sums = map { my @of = (0, 0, 0);
        for my $session (@$_) { my ($out, $err) = finish_session($session); $errors .= $err; my @counts = split /\|/, $out; $of[$_] += $counts[$_] for 0 .. $#counts; }
        \@of } \@checkers, \@fillers, \@writers;
    return (@{$sums[0]}, @{$sums[1]}[0, 1], $sums[2][0], $errors);
}

my ($reads, $found, $wrong, $puts, $stored, $commits, $errors) = play(6, 'true');
is($errors, '', 'no errors');
is($wrong, 0, "of $reads reads, $found of them hits, beside $commits commits none was wrong");
cmp_ok($found, '>', $reads / 2, 'most reads found something');
cmp_ok($stored, '>', 50, "many puts were stored: $stored of $puts");
cmp_ok($stored, '<', $puts, 'and some were overtaken');

(undef, undef, $wrong, $puts) = play(4, 'false');
cmp_ok($wrong, '>', 0, "without leases the checker finds values that were overtaken: $wrong wrong reads, $puts puts");

sql("ALTER SYSTEM SET prompt_cache.without_rules = $lease_whole");
$node->reload;
$node->poll_query_until('lease', "SELECT current_setting('prompt_cache.without_rules') = '$lease_whole'") or die;
sql(q{SELECT prompt_cache.forget_namespace('names')});
for my $attempt (1 .. 5)
{
    ($reads, $found, $wrong, $puts) = play(4, 'true');
    last if $wrong > 0;
}
cmp_ok($wrong, '>', 0, "without the rule LeaseWhole it finds values from the future: $wrong wrong of $found, $puts puts");
$node->stop;

done_testing();
