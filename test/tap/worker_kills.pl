# The worker is killed again and again under load, while it waits and while it works: the server starts anew, nothing that flush()
# acknowledged is lost, no answer is wrong, the worker is back, and nobody else has crashed. Signals that an operator may send
# do less than that. FULL=1: a hundred kills.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use ChatDatabase;

my $kills = $ENV{FULL} ? 100 : 5;
my $node = new_server('kills', "prompt_cache.persist_naptime = '20ms'\nrestart_after_crash = on\nautovacuum = off\nfsync = off\n");
load_chat($node, 'chat');
$node->safe_psql('chat', q{
    CREATE PROCEDURE work(seconds float) LANGUAGE plpgsql AS $$
    DECLARE final timestamptz := clock_timestamp() + seconds * interval '1 s'; u int; exact boolean;
    BEGIN WHILE clock_timestamp() < final LOOP
        u := 11 + floor(random() * 50);
        UPDATE users SET system_prompt = random()::text WHERE user_id = u; COMMIT;
        IF random() < 0.1 THEN UPDATE tenants SET system_prompt = random()::text WHERE id = 1 + u % 5; COMMIT; END IF;
        SELECT bool_and(prompt_cache.prompt(v) = prompt_cache.build(v)) INTO exact FROM generate_series(u, u + 5) v;
        IF NOT exact THEN RAISE EXCEPTION 'wrong answer for one of % to %', u, u + 5; END IF;
        COMMIT; END LOOP; END $$;
    UPDATE users SET tenant_id = NULL WHERE user_id <= 10});

sub worker { return (worker_processes($node))[0]; }
sub wait_for_worker
{
    for (1 .. 4000) { my $pid = worker(); return $pid if $pid; sleep 0.005; }
    BAIL_OUT('the worker is not back');
}
# Users 1 to 10 are changed by nobody else.
my $kept = q{SELECT count(*) FILTER (WHERE c.cached_prompt = prompt_cache.build(u.user_id) AND c.replaced_at IS NULL)
    FROM users u JOIN prompt_cache.user_prompt_cache c ON c.user_key = u.user_id::text WHERE u.user_id <= 10};

my $all_saved = q{SELECT count(*) = 60 FROM users u JOIN prompt_cache.user_prompt_cache c ON c.user_key = u.user_id::text
    WHERE c.replaced_at IS NULL AND c.cached_prompt = prompt_cache.build(u.user_id)};

my %killed;
my ($lost, $slow, $wrong) = (0, 0, '');
for my $round (1 .. $kills)
{
    my @load = map { start_session($node, 'chat', 'CALL work(60)') } 1 .. 3;
    my $acknowledged = $node->safe_psql('chat', qq{UPDATE users SET system_prompt = 'round $round' WHERE user_id <= 10;
        SELECT count(prompt_cache.prompt(user_id)) FROM users WHERE user_id <= 10; SELECT prompt_cache.flush() >= 0; $kept});
    # At another moment of its life each time; one that was ending anyhow is not noticed.
    my $since = -s $node->logfile;
    for (my $met = 0; !$met;)
    {
        my $pid = wait_for_worker();
        sleep rand(0.03);
        next unless kill 'KILL', $pid;
        for (1 .. 20) { last if $met = slurp_file($node->logfile, $since) =~ /\(PID $pid\) was terminated by signal 9/; sleep 0.05; }
        $killed{$pid} = 1 if $met;
    }
    for (@load) { my (undef, $err) = finish_session($_); $wrong .= $err if $err =~ /wrong answer/; }
    my $began = time;
    $node->poll_query_until('chat', 'SELECT true') or BAIL_OUT('the server is not back');
    my $is = $node->safe_psql('chat', $kept);
    $lost++ if $acknowledged !~ /\n10$/ || $is != 10;
    $wrong .= exact($node, 'chat') if exact($node, 'chat') ne '60 of 60';
    $node->poll_query_until('chat', $all_saved) or BAIL_OUT('the worker is not back');
    $slow++ if time - $began > 20;
}
is(keys %killed, $kills, 'each kill has met a worker of its own');
is($lost, 0, 'what flush() acknowledged is there after each of them');
is($wrong, '', 'no answer was wrong');
is($slow, 0, 'the worker is back each time, in good time');
my $log = slurp_file($node->logfile);
my @crashed = $log =~ /\(PID (\d+)\) was terminated by signal/g;
is(join(',', grep { !$killed{$_} } @crashed), '', 'nobody else has crashed');
is(scalar @crashed, $kills, 'and the server has noticed each');
unlike($log, qr/PANIC|TRAP|was terminated by signal (?!9)/, 'no other trouble is in the log');
ok($node->poll_query_until('chat', $all_saved), 'everything is saved in the end');

# Signals at any moment
my @load = map { start_session($node, 'chat', 'CALL work(6)') } 1 .. 3;
my $since = -s $node->logfile;
my $launcher = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'prompt_cache launcher'});
my ($final, $sent) = (time + 5, 0);
while (time < $final)
{
    my $pid = worker();
    $sent += kill((qw(TERM HUP INT HUP TERM TERM TERM HUP))[rand 8], $pid) if $pid;
    kill((qw(HUP INT))[rand 2], $launcher);
    sleep rand(0.02);
}
cmp_ok($sent, '>', 5, "$sent signals were sent");
for (@load) { my (undef, $err) = finish_session($_); is($err, '', 'the load has not noticed'); }
is(exact($node, 'chat'), '60 of 60', 'no answer is wrong');   # and all are composed after the last edit of a tenant
ok($node->poll_query_until('chat', $all_saved), 'and everything is saved');
is($node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'prompt_cache launcher'}), $launcher, 'by a worker of the same launcher');
unlike(slurp_file($node->logfile, $since), qr/PANIC|terminated by signal|crash of another/, 'no signal has crashed anything');
my @told = grep { /prompt_cache: / } split /\n/, slurp_file($node->logfile, $since);
cmp_ok(@told, '<', 5, 'nor has it filled the log') or diag(join "\n", @told[0 .. 9]);
$node->stop;

done_testing();
