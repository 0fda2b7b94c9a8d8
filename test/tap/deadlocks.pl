# An application that changes users in any order meets deadlocks of its own. With the extension, its worker and flush() it
# meets no others: each cycle that the server has found is of sessions and tables of the application.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('deadlock', "prompt_cache.persist_naptime = '20ms'\ndeadlock_timeout = '20ms'\nautovacuum = off\nprompt_cache.history = 2\n");
load_chat($node, $_) for qw(plain chat);
$node->safe_psql('plain', 'DROP EXTENSION prompt_cache');
for my $database (qw(plain chat))
{
    my $read = $database eq 'chat' ? 'PERFORM prompt_cache.prompt(u)' : 'PERFORM system_prompt FROM users WHERE user_id = u';
    # Each transaction changes some users, then perhaps one tenant; `ordered` does so by ascending keys, where no deadlock is its
    # own. The tenant is drawn first: WHERE id = random() would draw anew for each row, and lock several in no order.
    $node->safe_psql($database, qq{
        ALTER TABLE users DROP CONSTRAINT users_tenant_id_fkey;
        CREATE PROCEDURE load(seconds float, ordered boolean, INOUT commits int DEFAULT 0, INOUT deadlocks int DEFAULT 0, INOUT pid int DEFAULT pg_backend_pid(), INOUT cycles text DEFAULT '', INOUT others text DEFAULT '') LANGUAGE plpgsql AS \$\$
        DECLARE
            final timestamptz := clock_timestamp() + seconds * interval '1 s';
            keys int[];
            detail text;
            u int;
            t int;
        BEGIN
            WHILE clock_timestamp() < final LOOP
                BEGIN
                    keys := ARRAY(SELECT 1 + floor(random() * 20)::int FROM generate_series(1, 4));
                    IF ordered THEN keys := ARRAY(SELECT DISTINCT k FROM unnest(keys) k ORDER BY k); END IF;
                    FOREACH u IN ARRAY keys LOOP
                        CASE floor(random() * 4)::int
                            WHEN 0 THEN DELETE FROM users WHERE user_id = u;
                            WHEN 1 THEN INSERT INTO users VALUES (u, 1 + u % 5, 'new') ON CONFLICT (user_id) DO UPDATE SET system_prompt = random()::text;
                            WHEN 2 THEN $read;
                            ELSE UPDATE users SET system_prompt = random()::text WHERE user_id = u;
                        END CASE;
                    END LOOP;
                    t := 1 + floor(random() * 5);
                    IF random() < 0.2 THEN UPDATE tenants SET system_prompt = random()::text WHERE id = t; END IF;
                    commits := commits + 1;
                EXCEPTION
                    WHEN deadlock_detected THEN
                        deadlocks := deadlocks + 1;
                        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
                        cycles := cycles || translate(detail, E'\\n|', '; ');
                    WHEN OTHERS THEN others := others || SQLERRM || '; ';
                END;
                COMMIT;
            END LOOP;
        END \$\$});
}

# "commits|deadlocks|other errors" of sessions at once; `beside` is called again and again in one more session.
sub run_load
{
    my ($database, $seconds, $ordered, $beside) = @_;
    my @sessions = map { start_session($node, $database, "CALL load($seconds, $ordered)") } 1 .. 4;
    my $stop = $seconds * 50;
    my $other = start_session($node, $database, join("\n", ("$beside;\nSELECT pg_sleep(0.01);") x $stop)) if $beside;
    my ($commits, $deadlocks, $cycles, $others, %pids) = (0, 0, '', '');
    for (@sessions)
    {
        my ($out, $err) = finish_session($_);
        my @counts = split /\|/, $out, 5;
        $commits += $counts[0];
        $deadlocks += $counts[1];
        $pids{$counts[2]} = 1;
        $cycles .= $counts[3];
        $others .= $counts[4] . $err;
    }
    my (undef, $err) = $other ? finish_session($other) : ('', '');
    # Who was in a cycle, as the error tells its victim: nobody but these sessions may be.
    my @foreign = grep { !$pids{$_} } $cycles =~ /[Pp]rocess (\d+)/g;
    note("cycles: $cycles") if $ordered eq 'true' && $cycles;
    is("@foreign", '', "$database, ordered $ordered: the $deadlocks deadlocks are between sessions of the application");
    is($cycles eq '' ? 0 : 1, $deadlocks ? 1 : 0, 'and each has told who was in it');
    return ($commits, $deadlocks, $others, $err);
}

# Every cycle that the log tells of, a line a participant: nobody but the application may be in it.
sub foreign_cycles
{
    my ($since) = @_;
    my $log = slurp_file($node->logfile, $since);
    my @found = grep { !/: CALL load\(/ } $log =~ /^\tProcess \d+: .*$/mg;
    return join "\n", @found;
}

my ($commits, $deadlocks, $others, $err) = run_load('plain', 4, 'true');
is("$deadlocks$others", '0', 'without the extension: in key order the application meets no deadlock');
cmp_ok($commits, '>', 100, 'in many transactions');
(my $plain_commits, my $plain_deadlocks) = run_load('plain', 2, 'false');
cmp_ok($plain_deadlocks, '>', 0, 'in any order it meets some');

my $since = -s $node->logfile;
($commits, $deadlocks, $others, $err) = run_load('chat', 4, 'true', 'SELECT prompt_cache.flush(), prompt_cache._compact_nonces()');
is($others, '', 'with the extension, its worker, flush() and housekeeping: in key order it meets no error');
is($deadlocks, 0, "nor a deadlock, in $commits transactions");
cmp_ok($commits, '>', 100, 'in many transactions');
is($err, '', 'nor does flush()');
is(foreign_cycles($since), '', 'nor anybody else');

($commits, $deadlocks, $others, $err) = run_load('chat', 4, 'false', 'SELECT prompt_cache.flush()');
note("without: $plain_deadlocks of $plain_commits, with: $deadlocks of $commits");
cmp_ok($deadlocks, '>', 0, 'in any order it meets its own');
is($others, '', 'and no other error');
is($err, '', 'flush() meets none');
is(foreign_cycles($since), '', 'each of them is of the application\'s sessions alone');

# TRUNCATE and ALTER TABLE lock whole tables, in an order that is nobody else's.
my $ddl = q{BEGIN; LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.01); LOCK TABLE users IN ACCESS EXCLUSIVE MODE; COMMIT;
    BEGIN; LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(0.01); LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE; COMMIT};
$since = -s $node->logfile;
my $worker_only = start_session($node, 'chat', join "\n", map { "UPDATE users SET system_prompt = 'x$_' WHERE user_id = 1 + $_ % 60; SELECT prompt_cache.prompt(1 + $_ % 60); $ddl;" } 1 .. 60);
my (undef, $ddl_errors) = finish_session($worker_only);
is($ddl_errors, '', 'table locks in any order beside the worker alone: no deadlock');
is(foreign_cycles($since), '', 'and none in the log');
is(exact($node, 'chat'), $node->safe_psql('chat', "SELECT count(*) || ' of ' || count(*) FROM users"), 'all prompts are exact');
unlike(slurp_file($node->logfile), qr/prompt_cache worker.*exited with exit code 1/, 'no worker has failed');

# DROP EXTENSION while the worker saves
my $error = '';
for my $round (1 .. 20)
{
    my (undef, undef, $stderr) = $node->psql('chat', q{UPDATE users SET system_prompt = random()::text WHERE user_id < 50;
        SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT pg_sleep(random() * 0.04);
        DROP EXTENSION prompt_cache; CREATE EXTENSION prompt_cache; SELECT prompt_cache.attach();});
    $error .= $stderr;
}
is($error, '', 'DROP EXTENSION beside the worker: no deadlock');
$node->stop;

done_testing();
