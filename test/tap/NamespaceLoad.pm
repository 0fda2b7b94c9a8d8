# Readers and writers of namespaces at once. Writers change the tables that builders read; every read is one statement that
# compares fetch() with rebuild(), and so is every read of a writer that has not committed yet.
package NamespaceLoad;

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Exporter 'import';
use FindBin;
use Test::More;
use ChatDatabase;
our @EXPORT = qw(example prepare_load run_load);

# The text of a file of test/examples.
sub example { return slurp_file("$FindBin::RealBin/../examples/$_[0].sql"); }

# @$keys: [namespace, an SQL array of its keys]. @$writes: transactions, of one statement or several; $1 to $3 are random
# numbers from 1 to 6, $4 is one that comes once.
sub prepare_load
{
    my ($node, $database, $keys, $writes) = @_;
    my $quote = sub { my $text = shift; $text =~ s/'/''/g; return "'$text'"; };
    my $all_keys = join ', ', map { '(' . $quote->($_->[0]) . ", $_->[1]::text[])" } @$keys;
    my $all_writes = join ', ', map { '(ARRAY[' . join(', ', map { $quote->($_) } ref $_ ? @$_ : $_) . '])' } @$writes;
    $node->safe_psql($database, qq{
        CREATE SCHEMA load;
        CREATE TABLE load.keys AS SELECT namespace, unnest(keys) AS key FROM (VALUES $all_keys) v(namespace, keys);
        CREATE TABLE load.writes AS SELECT * FROM (VALUES $all_writes) v(statements);
        CREATE FUNCTION load.look(k load.keys, OUT hit boolean, OUT exact boolean) LANGUAGE sql STABLE AS \$\$
            SELECT f.source = 'memory', f.value IS NOT DISTINCT FROM prompt_cache.rebuild(k.namespace, k.key)
              FROM prompt_cache.fetch_many(k.namespace, ARRAY[k.key]) f \$\$;

        -- "reads|memory hits|which were wrong"; every second transaction is REPEATABLE READ.
        CREATE PROCEDURE load.read(seconds float, INOUT reads bigint DEFAULT 0, INOUT hits bigint DEFAULT 0, INOUT wrong text DEFAULT '') LANGUAGE plpgsql AS \$\$
        DECLARE
            final timestamptz := clock_timestamp() + seconds * interval '1 s';
            all_keys load.keys[] := ARRAY(SELECT k FROM load.keys k);
            k load.keys;
            seen record;
            rounds int := 0;
        BEGIN
            WHILE clock_timestamp() < final LOOP
                PERFORM set_config('default_transaction_isolation', CASE rounds % 2 WHEN 0 THEN 'repeatable read' ELSE 'read committed' END, false);
                COMMIT;
                FOR i IN 1..6 LOOP
                    k := all_keys[1 + floor(random() * cardinality(all_keys))];
                    SELECT * INTO seen FROM load.look(k);
                    reads := reads + 1;
                    hits := hits + seen.hit::int;
                    IF NOT seen.exact THEN wrong := left(wrong || k, 500); END IF;
                    IF i = 3 THEN PERFORM pg_sleep(0.003); END IF;
                END LOOP;
                rounds := rounds + 1;
            END LOOP;
        END \$\$;

        -- "commits|rollbacks|which reads of its own changes were wrong". Some transactions change several things, some are rolled
        -- back, some keep only a part.
        CREATE PROCEDURE load.write(seconds float, pause float, INOUT commits bigint DEFAULT 0, INOUT rollbacks bigint DEFAULT 0, INOUT wrong text DEFAULT '') LANGUAGE plpgsql AS \$\$
        DECLARE
            final timestamptz := clock_timestamp() + seconds * interval '1 s';
            all_keys load.keys[] := ARRAY(SELECT k FROM load.keys k);
            k load.keys;
            one record;
            statement text;
            once int := pg_backend_pid() * 1000;
        BEGIN
            WHILE clock_timestamp() < final LOOP
                once := once + 1;
                BEGIN
                    FOR one IN SELECT statements FROM load.writes ORDER BY random() LIMIT CASE WHEN random() < 0.7 THEN 1 ELSE 3 END LOOP
                        BEGIN
                            FOREACH statement IN ARRAY one.statements LOOP
                                EXECUTE statement USING 1 + floor(random() * 6)::int, 1 + floor(random() * 6)::int, 1 + floor(random() * 6)::int, once;
                            END LOOP;
                            IF random() < 0.1 THEN RAISE EXCEPTION USING ERRCODE = 'PCTRY'; END IF;
                        EXCEPTION WHEN integrity_constraint_violation OR SQLSTATE 'PCTRY' THEN
                            rollbacks := rollbacks + 1;
                        END;
                    END LOOP;
                    FOR i IN 1..2 LOOP
                        k := all_keys[1 + floor(random() * cardinality(all_keys))];
                        IF NOT (load.look(k)).exact THEN wrong := left(wrong || k, 500); END IF;
                    END LOOP;
                    IF random() < 0.1 THEN RAISE EXCEPTION USING ERRCODE = 'PCTRY'; END IF;
                    commits := commits + 1;
                EXCEPTION WHEN SQLSTATE 'PCTRY' OR deadlock_detected THEN
                    rollbacks := rollbacks + 1;
                END;
                COMMIT;
                PERFORM pg_sleep(pause);
            END LOOP;
        END \$\$});
    return;
}

# (reads, hits, what was wrong, commits)
sub run_load
{
    my ($node, $database, $seconds, $pause) = @_;
    my @readers = map { start_session($node, $database, "CALL load.read($seconds)") } 1 .. 3;
    my @writers = map { start_session($node, $database, "CALL load.write($seconds, $pause)") } 1 .. 2;
    my ($reads, $hits, $commits, $wrong) = (0, 0, 0, '');
    for (@readers)
    {
        my ($out, $err) = finish_session($_);
        my @counts = $out =~ /^(\d+)\|(\d+)\|(.*)/s ? ($1, $2, $3) : (0, 0, $out);
        ($reads, $hits) = ($reads + $counts[0], $hits + $counts[1]);
        $wrong .= $counts[2] . $err;
    }
    for (@writers)
    {
        my ($out, $err) = finish_session($_);
        my @counts = $out =~ /^(\d+)\|(\d+)\|(.*)/s ? ($1, $2, $3) : (0, 0, $out);
        $commits += $counts[0];
        $wrong .= $counts[2] . $err;
    }
    return ($reads, $hits, $wrong, $commits);
}

1;
