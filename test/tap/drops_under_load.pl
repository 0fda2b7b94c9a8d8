# Whatever is dropped, emptied, renamed or copied while memory is full and a worker is at work in the database: it succeeds, at once or
# as soon as the worker's shift is over, memory is given back, and the workers of other databases go on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

my $node = new_server('drops', "prompt_cache.persist_naptime = '50ms'\nautovacuum = off\n");
load_chat($node, $_) for qw(other template_chat);
$node->safe_psql('template_chat', q{
    CREATE TABLE pace (seconds float); INSERT INTO pace VALUES (0);
    CREATE FUNCTION public.slow() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep((SELECT seconds FROM public.pace)); RETURN true; END';
    ALTER TABLE prompt_cache.user_prompt_cache ADD CONSTRAINT slow CHECK (public.slow())});
sub postgres { return $node->safe_psql('postgres', shift); }
sub bytes { return $node->safe_psql('other', q{SELECT bytes FROM prompt_cache.stats WHERE namespace = 'prompt'}); }
sub saved
{
    my ($database) = @_;
    return ok($node->poll_query_until($database, q{SELECT bool_and(EXISTS (SELECT FROM prompt_cache.user_prompt_cache c
        WHERE c.user_key = u.user_id::text AND c.replaced_at IS NULL AND c.cached_prompt = prompt_cache.build(u.user_id))) FROM users u}), "$database: all is saved");
}

# A database whose worker needs longer for what was noted than a shift lasts, and is at it.
sub busy
{
    my ($database) = @_;
    postgres("CREATE DATABASE $database TEMPLATE template_chat");
    $node->safe_psql($database, 'UPDATE pace SET seconds = 0.1; SELECT count(prompt_cache.prompt(user_id)) FROM users');
    $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'prompt_cache worker' AND query = 'saving prompts'")
        or BAIL_OUT("no worker of $database is at work");
    return;
}
sub takes
{
    my ($seconds, $name, $database, $sql) = @_;
    my $began = time;
    my ($code, undef, $err) = $node->psql($database, $sql);
    is($err, '', "$name: succeeds");
    return cmp_ok(time - $began, '<', $seconds, "$name: in good time");
}

exact($node, 'other');
my $since = -s $node->logfile;
busy('a');
my $full = bytes();
takes(5, 'DROP DATABASE', 'postgres', 'DROP DATABASE a');
cmp_ok(bytes(), '<', $full, 'DROP DATABASE: memory is given back');
busy('a');
takes(5, 'DROP DATABASE WITH (FORCE)', 'postgres', 'DROP DATABASE a WITH (FORCE)');
busy('a');
takes(5, 'RENAME', 'postgres', 'ALTER DATABASE a RENAME TO b');
busy('a');
takes(6, 'TEMPLATE', 'postgres', 'CREATE DATABASE c TEMPLATE a');
for my $database (qw(a b c))
{
    $node->safe_psql($database, 'UPDATE pace SET seconds = 0');
    is(exact($node, $database), '60 of 60', "$database: all prompts are exact");
    saved($database);
}

# In the database itself. The worker holds our tables for the length of a transaction, and the application's not at all.
$node->safe_psql('a', q{UPDATE pace SET seconds = 0.01; UPDATE users SET system_prompt = 'new'; SELECT count(prompt_cache.prompt(user_id)) FROM users});
takes(1, 'TRUNCATE', 'a', 'TRUNCATE users');
is($node->safe_psql('a', 'SELECT count(prompt_cache.prompt(u)) FROM generate_series(1, 60) u'), '0', 'TRUNCATE: nobody has a prompt');
$node->safe_psql('b', q{UPDATE pace SET seconds = 0.01; UPDATE users SET system_prompt = 'new'; SELECT count(prompt_cache.prompt(user_id)) FROM users});
takes(1, 'DROP TABLE', 'b', 'DROP TABLE users');
my ($code, undef, $err) = $node->psql('b', 'SELECT prompt_cache.prompt(1)');
like($err, qr/no longer fits the tables/, 'DROP TABLE: the attachment is void');
$node->safe_psql('c', q{UPDATE pace SET seconds = 0.01; UPDATE users SET system_prompt = 'new'; SELECT count(prompt_cache.prompt(user_id)) FROM users});
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'c' AND backend_type = 'prompt_cache worker'");
takes(2, 'DROP EXTENSION', 'c', 'DROP EXTENSION prompt_cache');
is($node->safe_psql('c', q{SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}), '0', 'DROP EXTENSION: the triggers are gone');
sleep 1;
like($node->safe_psql('b', q{SELECT prompt_cache.health() ->> 'status'}), qr/critical/, 'health() says what cannot be cached');

# Nobody looks after what is gone, nothing goes round and round, and the others are served.
$node->append_conf('postgresql.conf', "log_min_messages = debug1\nprompt_cache.persist_naptime = '1s'");
$node->reload;
sleep 1;
my $from = -s $node->logfile;
sleep 3;
my @started = slurp_file($node->logfile, $from) =~ /starting background worker process "(prompt_cache[^"]*)"/g;
is("@started", '', 'where there is nothing to do no worker is started');
$node->safe_psql('other', q{UPDATE users SET system_prompt = 'other'; SELECT count(prompt_cache.prompt(user_id)) FROM users});
saved('other');
# Where it cannot do its work it is not started over and over: a second lies between two that met a lock.
my $locker = $node->background_psql('other');
$locker->query_safe('BEGIN; LOCK TABLE prompt_cache.user_prompt_cache IN SHARE MODE');
$node->safe_psql('other', q{UPDATE users SET system_prompt = 'locked'; SELECT count(prompt_cache.prompt(user_id)) FROM users});
$from = -s $node->logfile;
sleep 4;
my $starts = () = slurp_file($node->logfile, $from) =~ /starting background worker process "prompt_cache/g;
cmp_ok($starts, '>=', 1, 'a worker that met a lock is followed by another one');
cmp_ok($starts, '<=', 5, 'not at once');
$locker->query_safe('COMMIT');
$locker->quit;
saved('other');
unlike(slurp_file($node->logfile, $since), qr/PANIC|ERROR:  (?!the attachment)|FATAL:  (?!terminating)/, 'nothing of this was an error of the workers');
$node->stop;

done_testing();
