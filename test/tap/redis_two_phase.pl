# Stamps while PREPARE TRANSACTION waits for a standby: the server lists its transaction twice in snapshots, so that of two with the
# same bounds and as many running only one may see a commit. What is built under it is given to Redis under the stamp that it sees, or a
# standby's older snapshot would be answered from the future.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $primary = new_server('primary', "autovacuum = off\nprompt_cache.redis_url = '" . $redis->tcp_url . "'\n", allows_streaming => 1);
load_chat($primary, 'chat');
$primary->safe_psql('chat', q{UPDATE users SET system_prompt = 'plain ' || user_id});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my ($prepares, $writes, $reads) = map { $primary->background_psql('chat') } 1 .. 3;
my $old = $standby->background_psql('chat');
my $ask = q{SELECT source || ' ' || (prompt LIKE '%plain 3') FROM prompt_cache.get_or_build(3)};
my $bounds = q{SELECT pg_snapshot_xmin(s) || ' ' || pg_snapshot_xmax(s) FROM pg_current_snapshot() s};
$writes->query_safe('SET synchronous_commit = local');
$reads->query_safe('SET prompt_cache.memory = off; SET prompt_cache.database = off');
$primary->safe_psql('chat', q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$primary->reload;
$primary->poll_query_until('chat', q{SELECT current_setting('synchronous_standby_names') = 'nobody'}) or die 'no reload';

$prepares->query_safe(q{BEGIN; UPDATE users SET system_prompt = 'waits' WHERE user_id = 20});
$writes->query_safe(q{BEGIN; UPDATE users SET system_prompt = 'written' WHERE user_id = 3});
$primary->safe_psql('chat', q{SET synchronous_commit = local; UPDATE users SET system_prompt = 'closes' WHERE user_id = 21});
is($reads->query_safe($ask), 'built true', 'the primary builds the text of before');
my $before = $reads->query_safe($bounds);
$redis->cli('FLUSHALL');
$primary->wait_for_catchup($standby);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');

$prepares->query_until(qr/asked/, "\\echo asked\nPREPARE TRANSACTION 'waits';\n");
$primary->poll_query_until('chat', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) or die 'PREPARE does not wait';
$writes->query_safe('COMMIT');
is($reads->query_safe($bounds), $before, 'the bounds are those of before');
is($reads->query_safe($ask), 'built false', 'and then that of after');
$primary->wait_for_catchup($standby);
like($old->query_safe($ask), qr/ true$/, "a snapshot of before on the standby sees the text of before, $_ call") for 'first', 'second';
$old->query_safe('COMMIT');
like($old->query_safe($ask), qr/ false$/, 'and the next that of after');

$primary->safe_psql('chat', 'ALTER SYSTEM RESET synchronous_standby_names');
$primary->reload;
$prepares->query_safe(q{ROLLBACK PREPARED 'waits'});
$_->quit for $prepares, $writes, $reads, $old;
$_->stop for $standby, $primary;
done_testing();
