# What networks, and servers that are broken or hostile, do to a Redis connection: each is a miss within the deadline, is
# counted, costs no memory to speak of, and is never a wrong answer.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $proxy = $redis->proxy;
my $deadline = 0.3;
my $node = new_server('faults', "autovacuum = off\nprompt_cache.redis_timeout = '300ms'\nprompt_cache.redis_url = '" . $proxy->url . "'\n");
load_chat($node, 'chat');
my $off = 'SET prompt_cache.memory = off; SET prompt_cache.database = off;';

sub sql { return $node->safe_psql('chat', shift); }
sub counted { my $path = join ',', @_; return sql("SELECT (prompt_cache.health() #>> '{tiers,redis,$path}')::bigint"); }
sub used_again
{
    my $when = shift;
    $proxy->mode('pass');
    return ok($node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'}), "$when: used again");
}
my $sources = "SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) AS n FROM users, prompt_cache.get_or_build(user_id) GROUP BY 1) s";
my $exact = "SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) IS NOT DISTINCT FROM prompt_cache.build(user_id)) || ' of ' || count(*) FROM users";

# A session in which only Redis may answer; its process is looked at from outside.
my $session = $node->background_psql('chat');
$session->query_safe($off);
my $backend = $session->query_safe('SELECT pg_backend_pid()');
sub ask { return $session->query_safe(shift); }
sub memory_kb { return (slurp_file("/proc/$backend/status") =~ /VmHWM:\s+(\d+)/)[0]; }
# How long one lookup takes, and what it says.
sub timed
{
    my $began = time;
    my $answer = ask('SELECT source || $$ $$ || (prompt = prompt_cache.build(2))::text FROM prompt_cache.get_or_build(2)');
    return ($answer, time - $began);
}

ask($sources);
is(ask($sources), 'redis 60', 'through the proxy Redis answers');

$proxy->mode('delay 20');
my ($answer, $took) = timed();
is($answer, 'redis true', 'slow, but in time: answered');
$proxy->mode('pass');

# mode => what it is counted as. Each makes one lookup a miss, within the deadline.
my @faults = (
    [ 'silence', 'no answer', qr/^timeout$/ ],
    [ 'delay 700', 'an answer that comes too late', qr/^timeout$/ ],
    [ 'drip 80', 'a byte at a time, each sooner than the deadline', qr/^timeout$/ ],
    [ 'cut', 'half an answer, then a reset', qr/^closed$/ ],
    [ 'noise', 'other bytes', qr/^(protocol|timeout|error)$/ ],
    [ 'twice', 'two answers to one command', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', "\$1073741824\r\n"), 'the head of a value of 1 GB', qr/^timeout$/ ],
    [ 'hex ' . unpack('H*', "\$99999999999999999999\r\n"), 'a length that is none', qr/^(protocol|timeout)$/ ],
    [ 'hex ' . unpack('H*', "*2147483647\r\n"), 'an array of 2^31', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', "*1\r\n" x 10000), 'arrays in arrays', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', ":7\r\n"), 'a number', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', "+OK\r\n"), 'a status', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', ">2\r\n+invalidate\r\n+x\r\n"), 'a push message', qr/^protocol$/ ],
    [ 'hex ' . unpack('H*', "-ERR unwell\r\n"), 'an error', qr/^error$/ ],
    [ 'hex ' . unpack('H*', "-MOVED 1234 10.0.0.1:6379\r\n"), 'a Redis Cluster', qr/^error$/ ],
    [ 'hex ' . unpack('H*', "-LOADING Redis is loading the dataset in memory\r\n"), 'a Redis that is loading', qr/^error$/ ],
    [ 'endless ' . unpack('H*', "\$1073741824\r\n"), 'a value of 1 GB', qr/^(timeout|protocol)$/ ]);
my @kinds = qw(no_connection timeout closed protocol error);
for (@faults)
{
    my ($mode, $what, $kind) = @$_;
    ask($sources);
    my %before = map { $_ => counted('failures', $_) } @kinds;
    my $connections = counted('connections');
    my $kb = memory_kb();
    $proxy->mode($mode);
    ($answer, $took) = timed();
    $proxy->mode('pass');
    is($answer, 'built true', "$what: built, and right");
    cmp_ok($took, '<', $deadline + 1, "$what: within the deadline");
    my @counted = grep { counted('failures', $_) > $before{$_} } @kinds;
    ok(scalar(grep { $_ =~ $kind } @counted), "$what: counted (@counted)");
    cmp_ok(memory_kb() - $kb, '<', 64 * 1024, "$what: memory is bounded");
    like(sql("SELECT prompt_cache.health() #>> '{tiers,redis,last_error}'"), qr/^MOVED/, "$what: health() names it") if $what =~ /Cluster/;
    used_again($what);
    ask($sources);
    is(ask($sources), 'redis 60', "$what: and then answered by Redis");
    cmp_ok(counted('connections'), '>', $connections, "$what: on another connection");
}

# A Redis that is nothing but trouble: the breaker opens after a few, and lookups are quick again.
$proxy->mode('silence');
my $began = time;
is(ask($exact), '60 of 60', 'nothing but silence: exact');
cmp_ok(time - $began, '<', 6 * $deadline + 3, 'nothing but silence: five lookups wait, the others do not');
is(sql("SELECT prompt_cache.health() #>> '{tiers,redis,breaker}'"), 'open', 'nothing but silence: the breaker is open');
sleep 1.5;
my $failures = counted('failures', 'timeout');
is(ask($exact), '60 of 60', 'while it is open: exact');
cmp_ok(counted('failures', 'timeout') - $failures, '<=', 1, 'while it is open: nobody but the worker asks');
used_again('silence');
$proxy->mode('refuse');
is(ask($exact), '60 of 60', 'connections that are closed at once: exact');
used_again('connections that are closed at once');

# Late answers must belong to nobody: of one command, and of the one before.
ask($sources);
for my $mode ('again 1', 'again 5', 'delay 299', 'delay 301', 'twice', 'flip')
{
    my ($wrong, $asked) = (0, 0);
    my %seen;
    for my $round (1 .. 3)
    {
        $proxy->mode($mode);
        my $result = ask(q{SELECT count(*) FILTER (WHERE g.prompt IS DISTINCT FROM prompt_cache.build(user_id)) || ' ' || count(*) || ' ' || count(*) FILTER (WHERE source = 'redis')
            FROM users, prompt_cache.get_or_build(user_id) g WHERE user_id BETWEEN 1 AND 30});
        my ($w, $a, $r) = split / /, $result;
        $wrong += $w;
        $asked += $a;
        $seen{redis} += $r;
        $proxy->mode('pass');
        $node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'});
        ask($sources);
    }
    is($wrong, 0, "$mode: $asked answers, $seen{redis} of Redis, none wrong");
}
cmp_ok(sql(q{SELECT sum(value::bigint) FROM jsonb_each_text(prompt_cache.health() #> '{tiers,redis,refused}')}), '>', 0, 'flipped bits were refused');
is(ask('SELECT count(*) FROM prompt_cache.verify()'), '0', 'verify() finds nothing');

# Changes while Redis is cut off.
$proxy->mode('silence');
sql(q{UPDATE users SET system_prompt = 'while cut off ' || user_id});
is(ask($exact), '60 of 60', 'changes while Redis is cut off: exact');
used_again('changes while Redis was cut off');
is(ask($exact), '60 of 60', 'and after it: what is there is stale, and refused');

# A connection that is not used is closed by Redis: that is no failure of anybody's.
$redis->cli('CONFIG', 'SET', 'timeout', '1');
ask($sources);
sleep 2.5;
my $closed = counted('failures', 'closed');
is(ask($sources), 'redis 60', 'a connection that Redis has closed is opened again');
is(counted('failures', 'closed'), $closed, 'without a failure');

$session->quit;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log');
$node->stop;
done_testing();
