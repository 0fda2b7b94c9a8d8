# A small chat database on a server of its own, and what a user's prompt must be, written as SQL of our own.
package ChatDatabase;

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Exporter 'import';
use File::Temp;
use IPC::Run;
our @EXPORT = qw(new_server load_chat key answer source_of exact load_watch start_session finish_session run_session worker_processes);

# A started server; more lines for postgresql.conf, then arguments of PostgreSQL::Test::Cluster->new, and
# allows_streaming as of its init().
sub new_server
{
    my ($name, $conf, %params) = @_;
    my $streaming = delete $params{allows_streaming};
    my $node = PostgreSQL::Test::Cluster->new($name, %params);
    $node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ], allows_streaming => $streaming);
    $node->append_conf('postgresql.conf',
        "shared_preload_libraries = 'prompt_cache'\nprompt_cache.persist_naptime = 1d\nmax_prepared_transactions = 10\nmax_connections = 40\n" . ($conf // ''));
    $node->start;
    return $node;
}

# The text form of the n-th user's or tenant's key.
sub key
{
    my ($type, $n) = @_;
    return $type eq 'uuid' ? sprintf('00000000-0000-4000-8000-%012d', $n) : $n;
}

# Users 1 to 60 of tenants 1 to 5, with every mixture of missing, empty and present layers, attached.
sub load_chat
{
    my ($node, $database, $type) = @_;
    $type //= 'bigint';
    my $make = $type eq 'uuid' ? "('00000000-0000-4000-8000-' || lpad((%s)::text, 12, '0'))::uuid" : '(%s)::bigint';
    my ($user, $tenant) = map { sprintf $make, $_ } 'u', '1 + u % 5';
    my $id = sprintf $make, 't';
    $node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
    $node->safe_psql($database, qq{
        CREATE TABLE tenants (id $type PRIMARY KEY, name text, system_prompt text);
        CREATE TABLE users (user_id $type PRIMARY KEY, tenant_id $type REFERENCES tenants, system_prompt text, last_login timestamptz);
        INSERT INTO tenants SELECT $id, 'Tenant ' || t, CASE t WHEN 1 THEN NULL WHEN 2 THEN '' ELSE 'Rules of tenant ' || t || E'\\n“be kind” 🙂' END
        FROM generate_series(1, 5) t;
        INSERT INTO users SELECT $user, CASE WHEN u % 7 <> 0 THEN $tenant END,
               CASE u % 4 WHEN 0 THEN NULL WHEN 3 THEN '' ELSE E'I am user ' || u || E'\\n— שלום' END
        FROM generate_series(1, 60) u;
        CREATE EXTENSION prompt_cache;
        SELECT prompt_cache.attach();
        SELECT prompt_cache.set_application_prompt('Application.');
    });
    return;
}

# "source|prompt" of the n-th user, asked in a connection of its own.
sub answer
{
    my ($node, $database, $n, $type) = @_;
    $type //= 'bigint';
    my $call = $type eq 'bigint' ? "get_or_build($n)" : "get_or_build_key('" . key($type, $n) . "')";
    return $node->safe_psql($database, "SELECT source, prompt FROM prompt_cache.$call");
}

sub source_of
{
    my ($source) = split /\|/, answer(@_), 2;
    return $source;
}

# "exact of all": how many users' prompts, of how many, are what the tables say.
sub exact
{
    my ($node, $database) = @_;
    return $node->safe_psql($database, q{
        SELECT count(*) FILTER (WHERE prompt_cache.prompt_key(u.user_id::text) = 'Application.'
            || CASE WHEN t.system_prompt <> '' THEN E'\n\n--- Tenant Guidelines ---\n' || t.system_prompt ELSE '' END
            || CASE WHEN u.system_prompt <> '' THEN E'\n\n--- User Preferences ---\n' || u.system_prompt ELSE '' END)
            || ' of ' || count(*)
        FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id});
}

# CALL watch(seconds, first, last): reads the prompts of these users over and over, each in the statement that puts them
# together from the tables, and compares with build() too; every second transaction is REPEATABLE READ. Answers
# "reads|memory hits|wrong|rounds".
sub load_watch
{
    my ($node, $database) = @_;
    $node->safe_psql($database, q{
        CREATE PROCEDURE watch(seconds float, first int, last int, INOUT reads bigint DEFAULT 0, INOUT hits bigint DEFAULT 0,
                               INOUT wrong bigint DEFAULT 0, INOUT rounds bigint DEFAULT 0)
        LANGUAGE plpgsql AS $$
        DECLARE
            seen  record;
            final timestamptz := clock_timestamp() + seconds * interval '1 s';
        BEGIN
            WHILE clock_timestamp() < final LOOP
                PERFORM set_config('default_transaction_isolation',
                                   CASE rounds % 2 WHEN 0 THEN 'repeatable read' ELSE 'read committed' END, false);
                COMMIT;
                FOR twice IN 1..2 LOOP
                    SELECT count(*) AS reads, count(*) FILTER (WHERE g.source = 'memory') AS hits,
                           count(*) FILTER (WHERE g.prompt IS DISTINCT FROM prompt_cache.build_key(u.user_id::text)
                               OR g.prompt IS DISTINCT FROM a.prompt
                                || CASE WHEN t.system_prompt <> '' THEN E'\n\n--- Tenant Guidelines ---\n' || t.system_prompt ELSE '' END
                                || CASE WHEN u.system_prompt <> '' THEN E'\n\n--- User Preferences ---\n' || u.system_prompt ELSE '' END) AS wrong
                      INTO seen
                      FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id CROSS JOIN prompt_cache.application a,
                           LATERAL prompt_cache.get_or_build_key(u.user_id::text) g
                     WHERE u.user_id BETWEEN first AND last;
                    reads := reads + seen.reads;
                    hits := hits + seen.hits;
                    wrong := wrong + seen.wrong;
                END LOOP;
                rounds := rounds + 1;
                PERFORM pg_sleep(0.002);
            END LOOP;
        END $$});
    return;
}

# psql in the background with these statements; finish_session() waits for it: (output, errors).
sub start_session
{
    my ($node, $database, $sql) = @_;
    my %session = (out => '', err => '', file => File::Temp->new);
    print { $session{file} } $sql;
    $session{file}->flush;
    $session{handle} = IPC::Run::start(
        [ $node->installed_command('psql'), '-XqAt', '-d', $node->connstr($database), '-f', $session{file}->filename ],
        '<', '/dev/null', '>', \$session{out}, '2>', \$session{err},
        IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
    return \%session;
}

sub finish_session
{
    my ($session) = @_;
    $session->{handle}->finish;
    chomp $session->{out};
    return ($session->{out}, $session->{err});
}

# The workers' processes, or those of one database's. One that waits for its time is connected to no database, so the server
# does not show it.
sub worker_processes
{
    my ($node, $database) = @_;
    my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
    my $oid = $database ? $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = '$database'") : '\\d+';
    my @found;
    for my $process (glob '/proc/[0-9]*')
    {
        # They may end while they are looked at.
        open(my $stat, '<', "$process/stat") or next;
        my ($parent) = (<$stat> // '') =~ /\) . (\d+)/;
        next unless ($parent // 0) == $postmaster;
        open(my $title, '<', "$process/cmdline") or next;
        push @found, $process =~ /(\d+)$/ if (<$title> // '') =~ /prompt_cache worker of database $oid\b/;
    }
    return @found;
}

sub run_session { return finish_session(start_session(@_)); }

1;
