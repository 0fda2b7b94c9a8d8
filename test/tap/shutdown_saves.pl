# What was composed and is not in the table yet is written when the server stops, fast or smart, in every database; so is the
# order in which prompts were used. What nobody could write is built again, and no answer is wrong.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

# Long enough for nothing to be written before its time but at the stop.
my $node = new_server('shutdown', "prompt_cache.persist_naptime = '1h'\nautovacuum = off\n");
my @databases = qw(one two three);
load_chat($node, $_) for @databases;
my $saved = q{SELECT count(*) FILTER (WHERE c.cached_prompt = prompt_cache.build(u.user_id)) || ' of ' || count(*)
    FROM users u LEFT JOIN LATERAL (SELECT * FROM prompt_cache.user_prompt_cache c WHERE c.user_key = u.user_id::text ORDER BY id DESC LIMIT 1) c ON true};
sub rows { return $node->safe_psql($_[0], 'SELECT count(*) FROM prompt_cache.user_prompt_cache'); }
sub waiting { return scalar worker_processes($node); }
sub wait_for_workers
{
    my ($count) = @_;
    for (1 .. 200) { return if waiting() == $count; sleep 0.05; }
    BAIL_OUT("not $count workers");
}

for my $mode (qw(fast smart))
{
    $node->safe_psql($_, qq{UPDATE users SET system_prompt = 'before $mode' WHERE user_id % 3 = 0}) for @databases;
    is(exact($node, $_), '60 of 60', "$mode: $_: all prompts are asked for") for @databases;
    wait_for_workers(3);
    is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'prompt_cache worker'}), '0', "$mode: workers wait without a connection");
    $node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE one');
    $node->safe_psql('postgres', 'DROP DATABASE copied');
    my $since = -s $node->logfile;
    my $began = time;
    $node->stop($mode);
    cmp_ok(time - $began, '<', 10, "$mode: the server stops soon");
    $node->start;
    is($node->safe_psql($_, $saved), '60 of 60', "$mode: $_: everything was written") for @databases;
    is(source_of($node, $_, 3), 'database', "$mode: $_: and is used") for @databases;
    unlike(slurp_file($node->logfile, $since), qr/prompt_cache.*(ERROR|FATAL)|PANIC/, "$mode: without an error");
}

# More than the list of what is to be saved can hold
my $users = 6000;
$node->safe_psql('one', "INSERT INTO users SELECT u, 1 + u % 5, 'User ' || u FROM generate_series(61, $users) u");
is(exact($node, 'one'), "$users of $users", 'many prompts are asked for');
wait_for_workers(3);
$node->restart;
is($node->safe_psql('one', $saved), "$users of $users", 'all are written at the stop');

# In the middle of saving
$node->safe_psql('one', q{UPDATE users SET system_prompt = 'again ' || user_id; SELECT count(prompt_cache.prompt(user_id)) FROM users});
$node->append_conf('postgresql.conf', "prompt_cache.persist_naptime = '20ms'");
$node->reload;
$node->poll_query_until('one', q{SELECT count(*) > 0 FROM prompt_cache.user_prompt_cache WHERE cached_prompt LIKE '%again%'}) or BAIL_OUT('nothing is saved');
$node->restart;
is($node->safe_psql('one', $saved), "$users of $users", 'a worker that is at work when the server stops ends its work');

# A lock on our table holds up neither the stop nor, for long, the workers
$node->safe_psql('two', q{UPDATE users SET system_prompt = 'locked' WHERE user_id = 3});
my $locker = $node->background_psql('two');
$locker->query_safe('BEGIN; LOCK TABLE prompt_cache.user_prompt_cache');
$node->safe_psql('two', q{SET prompt_cache.database = off; SELECT prompt_cache.prompt(3)});
sleep 0.5;
my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 10, 'a locked table does not keep the server from stopping');
eval { $locker->quit };
$node->start;
is(exact($node, 'two'), '60 of 60', 'all prompts are exact');
$node->safe_psql('two', q{SELECT count(prompt_cache.prompt(user_id)) FROM users});
ok($node->poll_query_until('two', $saved, '60 of 60'), 'and saved in the end');
$node->stop;

done_testing();
