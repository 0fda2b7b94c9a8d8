# Entries end when their time is over, not all at once, and by a clock that nobody can set. For jumps of the wall clock the
# server runs with a gettimeofday() of our own, which adds what a file says.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $folder = PostgreSQL::Test::Utils::tempdir();
sub write_to { my ($file, $text) = @_; open(my $handle, '>', "$folder/$file") or die "$file: $!"; print $handle $text; close $handle; return; }
write_to('clock.c', q{
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec now;
    char text[32] = "0";
    int file = open(CLOCK, O_RDONLY);
    (void) zone;
    if (file >= 0) { if (read(file, text, sizeof(text) - 1) < 0) text[0] = 0; close(file); }
    clock_gettime(CLOCK_REALTIME, &now);
    tv->tv_sec = now.tv_sec + atol(text);
    tv->tv_usec = now.tv_nsec / 1000;
    return 0;
}
});
system_or_bail('cc', '-shared', '-fPIC', "-DCLOCK=\"$folder/offset\"", '-o', "$folder/clock.so", "$folder/clock.c");
write_to('offset', 0);

my $node;
{
    local $ENV{LD_PRELOAD} = "$folder/clock.so";
    $node = new_server('ttl', "autovacuum = off\n");
}
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
sub set { my ($name, $value) = @_; sql("ALTER SYSTEM SET prompt_cache.$name = '$value'"); $node->reload; return $node->poll_query_until('chat', "SELECT '$value'::text = current_setting('prompt_cache.$name')") || die; }
sub jump { my $hours = shift; write_to('offset', $hours * 3600); return; }
my $users = q{FROM prompt_cache.entries WHERE layer = 'user'};
sql('INSERT INTO users SELECT u, 1 + u % 5 FROM generate_series(61, 300) u');
my $fill = 'SELECT count(*) FROM generate_series(1, 300) u, prompt_cache.get_or_build(u)';

# Three seconds
set('memory_ttl', '3s');
is(sql("$fill WHERE source = 'built'"), 300, 'everybody is built');
is(sql("SELECT count(*), min(expires_at - created_at) >= interval '2.8 s', max(expires_at - created_at) <= interval '3 s',
        max(expires_at - created_at) - min(expires_at - created_at) > interval '0.15 s', count(DISTINCT expires_at - created_at) > 100,
        bool_and(created_at BETWEEN clock_timestamp() - interval '2 s' AND clock_timestamp()) $users"), '300|t|t|t|t|t',
    'entries end after three seconds at most, at different times');
is(sql("$fill WHERE source = 'memory'"), 300, 'everybody is in memory');
my $half = sql("SELECT pg_sleep(extract(epoch FROM percentile_disc(0.5) WITHIN GROUP (ORDER BY expires_at) - clock_timestamp())) $users;
    SELECT count(*) $users AND valid");
$half =~ s/^\n//;
cmp_ok($half, '>', 50, 'when half of their times are over, not all are invalid');
cmp_ok($half, '<', 250, 'and not all are valid');
my $expired = q{SELECT expirations FROM prompt_cache.stats WHERE namespace = 'prompt'};
my $before = sql($expired);
sql("SELECT pg_sleep(extract(epoch FROM max(expires_at) - clock_timestamp())) $users");
is(sql("SELECT count(*) $users AND valid"), 0, 'when all times are over none is valid');
is(sql("$fill WHERE source = 'built'"), 300, 'and everybody is built again');
cmp_ok(sql($expired) - $before, '>=', 300, 'expirations are counted');
is(sql("$fill WHERE source = 'memory'"), 300, 'and in memory again');
is(sql('SELECT prompt_cache.flush()'), 300, 'the table is written');
sql('SELECT pg_sleep(3.1)');
is(sql("$fill WHERE source = 'database'"), 300, 'when memory has expired the table answers');

# No limit
set('memory_ttl', '0');
sql("SELECT prompt_cache.clear(); $fill");
is(sql("SELECT count(*), count(expires_at) $users"), '300|0', 'without a limit entries do not end');

# Jumps of the wall clock
set('memory_ttl', '30min');
sql("SELECT prompt_cache.clear(); $fill");
my $begun = sql('SELECT clock_timestamp()');
for my $hours (1, -1, 48)
{
    jump($hours);
    is(sql("SELECT round(extract(epoch FROM clock_timestamp() - '$begun') / 3600)"), $hours, "the clock has jumped by $hours hours");
    is(sql("$fill WHERE source = 'memory'"), 300, 'nothing has expired');
    is(sql("SELECT count(*) $users AND valid AND expires_at BETWEEN clock_timestamp() + interval '27 min' AND clock_timestamp() + interval '30 min'"), 300,
        'entries show times of the clock as it is');
}
set('memory_ttl', '1s');
sql("SELECT prompt_cache.clear(); $fill");
jump(0);
sql('SELECT pg_sleep(1.1)');
is(sql("$fill WHERE source = 'memory'"), 0, 'what was stored before the clock went back is not immortal');

# Whoever waits for a build waits no longer because the clock goes back
sql(q{ALTER DATABASE chat SET prompt_cache.build_wait = '2s'; UPDATE users SET system_prompt = 'waited for' WHERE user_id = 7; SELECT prompt_cache.build(1)});
my $locker = $node->background_psql('chat');
$locker->query_safe('BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE');
sub waits { my ($name, $event) = @_; return $node->poll_query_until('chat', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND wait_event_type = '$event'"); }
my $leader = start_session($node, 'chat', "SET application_name = 'leader'; SELECT prompt_cache.prompt(7)");
ok(waits('leader', 'Lock'), 'a build cannot go on');
my $waiter = start_session($node, 'chat', "SET application_name = 'waiter'; SELECT prompt_cache.prompt(7)");
ok(waits('waiter', 'Extension'), 'another backend waits for it');
jump(-1);
my $patience = time + 6;
my $waited;
do { $waited = $node->safe_psql('postgres', q{SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'waiter'}) } while ($waited ne 'Lock' && time < $patience);
is($waited, 'Lock', 'after build_wait it builds for itself');
$locker->query_safe('COMMIT');
like((finish_session($_))[0], qr/waited for$/, 'and both have the right answer') for $leader, $waiter;

$locker->quit;

# Redis ends its values by its own clock. Those that it forgot to end, and those of the future, are refused; an hour is neither.
jump(0);
my $redis = RedisServer->new;
set('redis_timeout', '2s');
set('redis_url', $redis->url);
my $remote = "SET prompt_cache.memory = off; SET prompt_cache.database = off; $fill WHERE source = 'redis'";
sql($remote);
for my $hours (0, 1, -1)
{
    jump($hours);
    is(sql($remote), 300, "Redis answers with the clock $hours hours off");
}
jump(48);
is(sql($remote), 0, 'a value that is days over its time is not used');
is(sql($remote), 300, 'but stored anew');
jump(0);
is(sql($remote), 0, 'nor is one of the day after tomorrow');
is(sql($remote), 300, 'which is stored anew too');
$node->stop;
done_testing();
