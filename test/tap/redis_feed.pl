# The channel for processes outside: what is published, when, and what counts as a gap; and the two subscribers of
# test/examples, which keep dictionaries under a load for a minute, with their connections cut.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Socket::UNIX;
use IO::Select;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $node = new_server('feed', "autovacuum = off\nprompt_cache.redis_timeout = '2s'\nprompt_cache.redis_url = '" . $redis->url . "'\n");
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
my $channel = sql('SELECT prompt_cache.invalidation_channel()');
like($channel, qr/^prompt_cache:\{\d+\.\d+\.[0-9a-f]{16}\}:invalidate$/, 'the channel has a name');

# What comes on the channel, in order.
my $socket = IO::Socket::UNIX->new(Peer => $redis->{socket}) or die $!;
syswrite $socket, "SUBSCRIBE $channel\r\n";
my $received = '';
my @messages;
sub listen_for
{
    my ($seconds) = @_;
    my $end = time + $seconds;
    while ((my $left = $end - time) > 0)
    {
        next if !IO::Select->new($socket)->can_read($left);
        sysread $socket, $received, 65536, length $received;
        push @messages, decode_json($1) while $received =~ s/^.*?(\{"epoch".*?\})\r\n//s;
    }
    return;
}
sub tags_since { my $from = shift; return join ' ', sort map { @{ $_->{tags} } } @messages[ $from .. $#messages ]; }
# Numbers of one epoch without a gap?
sub unbroken
{
    my ($from) = @_;
    for my $i ($from + 1 .. $#messages) { return 0 if $messages[$i]{epoch} ne $messages[ $i - 1 ]{epoch} || $messages[$i]{seq} != $messages[ $i - 1 ]{seq} + 1; }
    return 1;
}
sub tags { my $key = shift; return split / /, sql("SELECT array_to_string((prompt_cache.get_with_tags('$key')).tags, ' ')"); }

listen_for(3);
cmp_ok(scalar(@messages), '>=', 2, 'a channel that is quiet has a beat');
is(tags_since(0), '', 'without tags');
ok(unbroken(0), 'and numbers in order');
my ($all, $user, $application, $tenant) = tags(2);
is(scalar(tags(7)), 3, 'a user without a tenant has three tags, others four');
my $from = @messages;
sql(q{UPDATE users SET system_prompt = 'changed' WHERE user_id = 2; UPDATE tenants SET system_prompt = 'changed' WHERE id = 3});
listen_for(1);
is(tags_since($from), join(' ', sort $user, $tenant), 'a change of a user and one of a tenant are published');
$from = @messages;
sql(q{SELECT prompt_cache.set_application_prompt('Other.'); SELECT prompt_cache.clear()});
listen_for(1);
like(tags_since($from), qr/$application/, 'one of the application too');
like(tags_since($from), qr/$all/, 'and one of everything');
sql(q{SELECT prompt_cache.set_application_prompt('Application.')});

# After the commit, and not before.
listen_for(1);
my $writer = $node->background_psql('chat');
$from = @messages;
$writer->query_safe(q{BEGIN; UPDATE users SET system_prompt = 'open' WHERE user_id = 2});
listen_for(1);
is(tags_since($from), '', 'nothing is said of a transaction that is open');
$writer->query_safe('COMMIT');
listen_for(1.5);
is(tags_since($from), $user, 'it is when it has ended');
$from = @messages;
sql(q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id = 2; PREPARE TRANSACTION 'feed'});
listen_for(1.2);
is(tags_since($from), '', 'nothing is said of one that is prepared');
sql(q{COMMIT PREPARED 'feed'});
listen_for(1);
is(tags_since($from), $user, 'until it is committed');
$from = @messages;
sql(q{BEGIN; UPDATE users SET system_prompt = coalesce(system_prompt, '') || '.'; COMMIT});
listen_for(1);
is(scalar(split / /, tags_since($from)), 60, 'sixty users at once');
ok(unbroken(0), 'all this without a gap');
is($redis->cli('EXISTS', $channel =~ s/invalidate$/$user/r), 0, 'and the value of the user is gone from Redis');

# Gaps: more marks than the ring holds, a Redis that was away, a restart, transactions of before it.
my $worker = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'prompt_cache redis'});
$from = @messages;
sql(q{INSERT INTO users SELECT g, 1, 'many' FROM generate_series(1001, 4500) g});
listen_for(2);
is(scalar(split / /, tags_since($from)), 3500, 'thousands at once');
ok(unbroken($from), 'without a gap');
$from = $#messages;
kill 'STOP', $worker;
sql(q{BEGIN; UPDATE users SET system_prompt = 'overwritten' WHERE user_id = 5; PREPARE TRANSACTION 'feed'});
sql(q{UPDATE users SET system_prompt = 'many more' WHERE user_id > 1000});
sql('DELETE FROM users WHERE user_id > 1000');
kill 'CONT', $worker;
listen_for(2);
ok(!unbroken($from), 'more than the ring holds: a gap');
$from = $#messages;
listen_for(2);
ok(unbroken($from) && @messages > $from + 1, 'then a beat again');
sql(q{COMMIT PREPARED 'feed'});
listen_for(2);
ok(!unbroken($from), 'one whose marks were overwritten is committed after it: a gap again');
$from = $#messages;
sql(q{BEGIN; UPDATE users SET system_prompt = 'over a restart' WHERE user_id = 5; PREPARE TRANSACTION 'feed'});
$node->restart;
tags(5);
listen_for(3);
ok(!unbroken($from), 'a restart: another epoch');
$from = $#messages;
listen_for(2);
ok(unbroken($from), 'then a beat again');
sql(q{COMMIT PREPARED 'feed'});
listen_for(2);
ok(!unbroken($from), 'a transaction that was prepared before it: a gap when it is committed');
$from = $#messages;
is(sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'prompt_cache redis'}), 't', 'the worker is ended');
sql(q{UPDATE users SET system_prompt = 'without a worker' WHERE user_id = 2});
listen_for(8);
ok(!unbroken($from), 'another one begins another epoch');
close $socket;

# The subscribers, under a load.
my $examples = "$FindBin::RealBin/../examples";
my $psql = $node->installed_command('psql');
my $conninfo = $node->connstr('chat');
my %clients = (python => [ 'python3', "$FindBin::RealBin/feed_client.py" ]);
$clients{node} = [ 'node', "$FindBin::RealBin/feed_client.mjs" ] if system('node --version >/dev/null 2>&1') == 0;
note('there is no Node here: its subscriber is not run') if !$clients{node};
my $seconds = 60;
my %running;
for my $name (sort keys %clients)
{
    my %client = (in => '', out => '', err => '');
    $client{handle} = IPC::Run::start([ @{ $clients{$name} }, $examples, $redis->{socket}, $channel, $psql, $conninfo ], '<', \$client{in}, '>', \$client{out}, '2>', \$client{err}, IPC::Run::timeout(180));
    $running{$name} = \%client;
}
my @writes = (
    q{UPDATE users SET system_prompt = clock_timestamp()::text WHERE user_id = 1 + (random() * 59)::int},
    q{UPDATE tenants SET system_prompt = 'rules of ' || clock_timestamp() WHERE id = 1 + (random() * 4)::int},
    q{UPDATE users SET tenant_id = 1 + (random() * 4)::int WHERE user_id = 1 + (random() * 59)::int},
    q{BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id < 20; ROLLBACK},
    q{DELETE FROM users WHERE user_id = 60; INSERT INTO users VALUES (60, 1, 'again ' || clock_timestamp())});
my $writing = start_session($node, 'chat', join(";\n", map { "$_;\nSELECT pg_sleep(0.06)" } (@writes) x ($seconds / 0.06 / @writes)) . ";\n");
my $end = time + $seconds;
for my $cut (1 .. 2)
{
    sleep $seconds / 3;
    is($redis->cli('CLIENT', 'KILL', 'TYPE', 'pubsub'), scalar(keys %clients), "cut $cut: the subscribers lose their connections");
}
# Cut off in silence, too: nobody tells them that the connection is dead.
sleep 3;
$redis->signal('STOP');
sleep 5;
$redis->signal('CONT');
sleep $end - time if $end > time;
my (undef, $err) = finish_session($writing);
is($err, '', 'the writer had no trouble');
$node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'});
sleep 4;
for my $name (sort keys %running)
{
    my $client = $running{$name};
    $client->{handle}->finish;
    is($client->{err}, '', "$name: no trouble");
    my $said = decode_json($client->{out});
    my $kept = $said->{prompts};
    my $truth = decode_json(sql('SELECT json_object_agg(user_id, prompt_cache.build(user_id)) FROM users'));
    my @wrong = grep { ($kept->{$_} // '') ne ($truth->{$_} // '') } keys %$kept;
    is(scalar(@wrong), 0, "$name: the dictionary is what the database is");
    cmp_ok(scalar(keys %$kept), '>=', 50, "$name: it has " . scalar(keys %$kept) . ' users');
    cmp_ok($said->{reads}, '<', $said->{gets} / 2, "$name: $said->{gets} were asked for, $said->{reads} read");
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log');
$node->stop;
done_testing();
