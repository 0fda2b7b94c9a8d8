# Transaction ids are 32 bits and start anew after 2^32: nothing is mistaken for older or newer when they do, on a primary and
# on a standby, for snapshots and prepared transactions of before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('wraparound', "autovacuum = off\nmin_wal_size = 32MB\nhot_standby_feedback = on\n", allows_streaming => 1);
$node->safe_psql('postgres', 'ALTER DATABASE template0 ALLOW_CONNECTIONS true');

# In three jumps, everything frozen before each, to a few thousand ids before the end.
for my $next (1_500_000_000, 3_000_000_000, 4_294_967_296 - 1500)
{
    $node->command_ok([ 'vacuumdb', '--all', '--freeze', '--quiet' ], 'frozen');
    $node->stop;
    my $file = $node->data_dir . sprintf('/pg_xact/%04X', int($next / 1_048_576));
    unless (-e $file) { open(my $handle, '>', $file) or die "$file: $!"; print $handle "\0" x 262_144; close $handle; }
    $node->command_ok([ 'pg_resetwal', '-x', $next, '-D', $node->data_dir ], "next id: $next");
    $node->start;
}

load_chat($node, 'chat');
load_watch($node, 'chat');
my $burn = q{CREATE PROCEDURE burn(ids int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..ids LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$};
$node->safe_psql('chat', $burn);
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

sub sql { return $node->safe_psql('chat', shift); }
sub next_id { return sql('SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 4294967296'); }
sub text_of
{
    my ($server, $user) = @_;
    my $answer = answer($server, 'chat', $user);
    return ($answer =~ /^(\w+)/)[0] . ': ' . ($answer =~ /--- User Preferences ---\n(.*)/s)[0];
}
my $ask = 'SELECT prompt, prompt = prompt_cache.build(%d) FROM prompt_cache.get_or_build(%d)';

sql(q{UPDATE users SET system_prompt = 'before ' || user_id});
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact before');
is(text_of($node, 1), 'memory: before 1', 'and in memory');
sql('CALL burn(' . (-100 - next_id()) . ')');
is(next_id(), -100, 'a hundred ids are left');
my @old = map { $_->background_psql('chat') } $node, $standby;
$node->wait_for_catchup($standby);
$_->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM users') for @old;
sql(q{BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id = 3; PREPARE TRANSACTION 'before the end'});
sql(q{UPDATE users SET system_prompt = 'last' WHERE user_id = 1});
is(text_of($node, $_->[0]), "$_->[1]", "user $_->[0] with few ids left") for [ 1, 'built: last' ], [ 1, 'memory: last' ], [ 2, 'memory: before 2' ], [ 3, 'memory: before 3' ];

# Over the end, while others read and write
my @readers = map { start_session($_, 'chat', 'CALL watch(3, 5, 60)') } $node, $node, $standby;
my $writer = start_session($node, 'chat', join ";\n", ((
    q{UPDATE users SET system_prompt = clock_timestamp()::text WHERE user_id = 11 + (random() * 49)::int},
    q{BEGIN; UPDATE users SET system_prompt = 'never' WHERE user_id > 20; ROLLBACK},
    q{UPDATE tenants SET system_prompt = clock_timestamp()::text WHERE id = 3}, 'SELECT pg_sleep(0.02)') x 60));
sql('SELECT pg_sleep(0.3); CALL burn(150)');
cmp_ok(next_id(), '>', 0, 'ids have started anew');
for my $reader (@readers, $writer)
{
    my ($out, $err) = finish_session($reader);
    is($err, '', 'no trouble');
    next if $reader == $writer;
    my ($reads, $hits, $wrong) = split /\|/, $out;
    is($wrong, 0, "every answer was exact ($out)");
    cmp_ok($hits, '>', $reads / 2, 'mostly from memory');
}

answer($node, 'chat', 12);    # of user 2's tenant, which the writer may have changed when the readers had ended
is(text_of($node, 2), 'memory: before 2', 'what was stored before is still hit');
is(text_of($node, 3), 'memory: before 3', 'also where a transaction of before is prepared');
sql(q{UPDATE users SET system_prompt = 'after' WHERE user_id IN (2, 4)});
sql(q{COMMIT PREPARED 'before the end'});
is(text_of($node, $_->[0]), "$_->[1]", "user $_->[0] after the end") for [ 2, 'built: after' ], [ 3, 'built: prepared' ], [ 1, 'memory: last' ], [ 4, 'built: after' ], [ 4, 'memory: after' ];
$node->wait_for_catchup($standby);
is(text_of($standby, $_->[0]) =~ s/^\w+: //r, $_->[1], "user $_->[0] on the standby") for [ 2, 'after' ], [ 3, 'prepared' ], [ 1, 'last' ], [ 4, 'after' ];
for my $server (0, 1)
{
    like($old[$server]->query_safe(sprintf $ask, $_, $_), qr/before $_\|t$/, "user $_ in a snapshot of before, server $server") for 1 .. 4;
    $old[$server]->query_safe('COMMIT');
    $old[$server]->quit;
}

# Once more with a server started after the end
is(exact($_, 'chat'), '60 of 60', 'all prompts are exact on ' . $_->name) for $node, $standby;
sql('SELECT prompt_cache.flush()');
sql(q{BEGIN; UPDATE users SET system_prompt = 'prepared again' WHERE user_id = 3; PREPARE TRANSACTION 'after the end'});
$node->stop('immediate');
$node->start;
is(text_of($node, 3), 'built: prepared', 'the bound of a new start holds');
sql(q{COMMIT PREPARED 'after the end'});
is(text_of($node, $_->[0]), "$_->[1]", "user $_->[0] after a crash") for [ 3, 'built: prepared again' ], [ 3, 'memory: prepared again' ], [ 1, 'database: last' ];
is(sql('SELECT count(*) FROM prompt_cache.verify()'), '0', 'verify() finds nothing');

$standby->stop;
$node->stop;
done_testing();
