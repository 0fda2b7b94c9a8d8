# What can be seen already and nobody has been told of: replay and COMMIT PREPARED stand between the two, and a function is outdated in
# the caches of those who build meanwhile. And tables rewritten under old snapshots of a standby, which freezing does not conflict with.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my @test_build = (install_path => $ENV{PROMPT_CACHE_TEST_BUILD});
my $primary = new_server('primary', "autovacuum = off\nprompt_cache.redis_timeout = '1s'\nprompt_cache.redis_url = '" . $redis->url . "'\n",
    allows_streaming => 1, @test_build);
load_chat($primary, 'chat');
sub on { my ($node, $sql) = @_; return $node->safe_psql('chat', $sql); }
sub note_function { my $version = shift; return "CREATE OR REPLACE FUNCTION note_of(key text) RETURNS text LANGUAGE plpgsql STABLE AS \$\$ BEGIN RETURN '$version ' || (SELECT body FROM notes); END \$\$"; }
on($primary, q{CREATE TABLE notes (body text); INSERT INTO notes VALUES ('text')});
on($primary, note_function('first'));
on($primary, q{SELECT prompt_cache.create_namespace('notes', 'note_of(text)', ttl => '0'), prompt_cache.watch('notes', 'notes')});
on($primary, q{CREATE FUNCTION hold_messages(int) RETURNS boolean LANGUAGE c AS '$libdir/prompt_cache', 'pc_hold_messages'});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby', @test_build);
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = off\nmax_standby_streaming_delay = -1\n");
$standby->start;
$primary->wait_for_catchup($standby);

my $same = q{SELECT prompt_cache.fetch('notes', 'k') = prompt_cache.rebuild('notes', 'k')};

# Until a query gives t in a session that is open already: while messages are held back nobody can connect.
sub wait_for
{
    my ($session, $query) = @_;
    for (1 .. 200)
    {
        return 1 if $session->query_safe($query) eq 't';
        select undef, undef, undef, 0.01;
    }
    return 0;
}

# Starts to hold the messages of a server back, and waits until it does; returns the session that does.
sub hold
{
    my ($node, $watcher) = @_;
    my $holder = start_session($node, 'chat', "SELECT pg_advisory_lock(1);\nSELECT hold_messages(2500);\n");
    # pg_stat_activity would wait too.
    wait_for($watcher, q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'}) or die;
    select undef, undef, undef, 0.1;
    return $holder;
}

# A catalog scan under the snapshot, whatever the session's caches hold.
sub can_see { my ($session, $version) = @_; return wait_for($session, "SELECT count(*) = 1 FROM pg_proc WHERE prosrc LIKE '%$version%'"); }

# Replay
{
    my $reader = $standby->background_psql('chat');
    $reader->query_safe(q{SELECT prompt_cache.fetch('notes', 'other')});
    my $watcher = $standby->background_psql('chat');
    my $holder = hold($standby, $watcher);
    on($primary, note_function('second'));
    ok(can_see($watcher, 'second'), 'replay: the new function can be seen');
    is($reader->query_safe(q{SELECT prompt_cache.fetch('notes', 'k')}), 'first text', 'and the old one is built by');
    finish_session($holder);
    $primary->wait_for_catchup($standby);
    is(on($standby, $same), 't', 'on the standby nobody else is given what it made');
    is(on($primary, $same), 't', 'nor on the primary, through Redis');
    $_->quit for $reader, $watcher;
}

# COMMIT PREPARED of what was prepared before a restart
{
    on($primary, 'BEGIN; ' . note_function('third') . q{; PREPARE TRANSACTION 'ddl'});
    $primary->restart;
    my $reader = $primary->background_psql('chat');
    $reader->query_safe(q{SELECT prompt_cache.fetch('notes', 'other')});
    my $watcher = $primary->background_psql('chat');
    my $committer = start_session($primary, 'chat', q{SELECT pg_sleep(1); COMMIT PREPARED 'ddl'});   # connected before the hold
    wait_for($watcher, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) or die;
    my $holder = hold($primary, $watcher);
    ok(can_see($watcher, 'third'), 'COMMIT PREPARED: the new function can be seen');
    is($reader->query_safe(q{SELECT prompt_cache.fetch('notes', 'k')}), 'second text', 'and the old one is built by');
    finish_session($_) for $holder, $committer;
    is(on($primary, $same), 't', 'but nobody else is given what it made');
    $_->quit for $reader, $watcher;
    $primary->wait_for_catchup($standby);
}

# VACUUM FULL freezes rows, of which older snapshots of a standby are not told.
{
    my $old = $standby->background_psql('chat');
    $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
    on($primary, q{UPDATE users SET system_prompt = 'written' WHERE user_id = 2});
    on($primary, 'VACUUM FULL prompt_cache.tag_nonce');
    $primary->wait_for_catchup($standby);
    $old->query_safe('SELECT prompt FROM prompt_cache.get_or_build(2)');
    $old->query_safe('COMMIT');
    for my $node ($standby, $primary)
    {
        is(on($node, 'SELECT prompt_cache.prompt(2) = prompt_cache.build(2)'), 't', 'VACUUM FULL of the nonces: exact for new snapshots on the ' . $node->name);
    }
    $old->quit;
}

# Replay that waits for a reader's lock keeps nothing from being stored.
{
    on($primary, 'CREATE TABLE wanted (n int)');
    $primary->wait_for_catchup($standby);
    on($standby, q{SELECT prompt_cache.fetch('notes', 'before')});
    my $blocker = $standby->background_psql('chat');
    $blocker->query_safe('BEGIN; SELECT FROM wanted');
    on($primary, 'BEGIN; LOCK TABLE wanted IN ACCESS EXCLUSIVE MODE; INSERT INTO wanted VALUES (1); COMMIT');
    $standby->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock'}) or die;
    my $stalled = q{SELECT source FROM prompt_cache.fetch_many('notes', '{stalled}')};
    is(on($standby, $stalled), $_, "while replay waits: $_") for 'built', 'memory';
    $blocker->query_safe('COMMIT');
    $blocker->quit;
}

done_testing();
