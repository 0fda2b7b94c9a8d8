# Nonces are put together without anybody noticing: no snapshot, new or old, here or on a standby, sees another stamp, so
# every row that could be used before can be used after, and none that could not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('cleanup', "autovacuum = off\n", allows_streaming => 1);
load_chat($node, 'chat');
load_watch($node, 'chat');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = on\nprompt_cache.persist_naptime = '100ms'");
$standby->start;

sub sql { return $node->safe_psql('chat', shift); }
sub nonces { return sql('SELECT count(*) || $$ rows of $$ || count(DISTINCT tag) || $$ tags$$ FROM prompt_cache.tag_nonce'); }
my $stamps = q{SELECT md5(string_agg(s::text, ',' ORDER BY tag)) FROM (SELECT tag, sum(weight) AS weight, bit_xor(nonce) AS nonce FROM prompt_cache.tag_nonce GROUP BY tag) s};
my $sources = q{SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) n FROM users u, prompt_cache.get_or_build(u.user_id) GROUP BY 1) s};
# What the table alone answers, whatever memory holds.
my $from_table = "SET prompt_cache.memory = off; $sources";

sql(q{DO $$ BEGIN FOR i IN 1..40 LOOP
    UPDATE users SET system_prompt = 'edit ' || i WHERE user_id = 1 + i % 8; COMMIT;
    UPDATE tenants SET system_prompt = 'edit ' || i WHERE id = 1 + i % 3; COMMIT;
    END LOOP; END $$});
is(exact($node, 'chat'), '60 of 60', 'after many edits all prompts are exact');
sql('SELECT prompt_cache.flush()');
is(sql($from_table), 'database 60', 'and can be read from the table');
my ($rows, $tags) = nonces() =~ /(\d+) rows of (\d+)/;
cmp_ok($rows, '>', $tags + 60, 'there are many nonces of few tags');

# Snapshots from before: one that has read already, and one on the standby.
$node->wait_for_catchup($standby);
my %old = (primary => $node->background_psql('chat'), standby => $standby->background_psql('chat'));
my %before;
for my $where (keys %old)
{
    $old{$where}->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET prompt_cache.memory = off");
    $before{$where} = $old{$where}->query_safe($stamps);
}
my $sum = sql($stamps);
is(sql('SELECT after_tag IS NULL FROM prompt_cache._compact_nonces()'), 't', 'everything is put together in one slice');
is(nonces(), "$tags rows of $tags tags", 'a row a tag is left');
is(sql($stamps), $sum, 'no stamp has changed');
is(sql($from_table), 'database 60', 'all rows saved before are still used');
$node->wait_for_catchup($standby);
is($standby->safe_psql('chat', $stamps), $sum, 'nor has one on the standby');
is($standby->safe_psql('chat', $from_table), 'database 60', 'where the rows are used too');
for my $where (sort keys %old)
{
    is($old{$where}->query_safe($stamps), $before{$where}, "$where: an older snapshot sees the same stamps");
    is($old{$where}->query_safe($sources), 'database 60', "$where: and uses the rows");
}

# Old and new together: a row that was current for an old snapshot only is used by nobody else.
sql(q{UPDATE users SET system_prompt = 'newest' WHERE user_id = 1; SELECT prompt_cache._compact_nonces()});
is(sql($from_table), 'built 1, database 59', 'after another edit one row is not current');
is($old{primary}->query_safe($sources), 'database 60', 'for the older snapshot all are');
sql('SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT prompt_cache.flush()');
is(sql($from_table), 'database 60', 'it is replaced');
is($old{primary}->query_safe('SELECT source FROM prompt_cache.get_or_build(1)'), 'database', 'but not for the older snapshot, whose row is still there for it');
is($old{primary}->query_safe('SELECT prompt_cache.prompt(1) = prompt_cache.build(1)'), 't', 'which reads what it always did');
$node->wait_for_catchup($standby);
is($old{standby}->query_safe('SELECT prompt_cache.prompt(1) = prompt_cache.build(1)'), 't', 'so does the one on the standby');
$_->quit for values %old;

# A rolled back round leaves everything as it was, and a second one at the same time waits and finds nothing.
sql(q{DO $$ BEGIN FOR i IN 1..5 LOOP UPDATE users SET system_prompt = 'again ' || i WHERE user_id = 3; COMMIT; END LOOP; END $$});
$sum = sql($stamps);
sql('BEGIN; SELECT prompt_cache._compact_nonces(); ROLLBACK');
is(sql($stamps), $sum, 'a round that is rolled back changes no stamp');
my $first = $node->background_psql('chat');
$first->query_safe('BEGIN; SELECT prompt_cache._compact_nonces()');
my $second = start_session($node, 'chat', 'SELECT prompt_cache._compact_nonces()');
sql(q{UPDATE users SET system_prompt = 'between' WHERE user_id = 3});
$first->query_safe('COMMIT');
$first->quit;
my (undef, $errors) = finish_session($second);
is($errors, '', 'two rounds at once do not fail');
($rows) = sql('SELECT sum(weight) FROM prompt_cache.tag_nonce');
is(sql('SELECT prompt_cache._compact_nonces(); SELECT sum(weight) FROM prompt_cache.tag_nonce'), "(,)\n$rows", 'and lose no change');

# Writers, readers who check every prompt, flush() and housekeeping without a pause, here and on the standby.
sql(q{CREATE PROCEDURE edit(seconds float) LANGUAGE plpgsql AS $$
    DECLARE final timestamptz := clock_timestamp() + seconds * interval '1 s';
    BEGIN WHILE clock_timestamp() < final LOOP
        UPDATE users SET system_prompt = random()::text WHERE user_id = 1 + floor(random() * 8); COMMIT;
        IF random() < 0.1 THEN UPDATE tenants SET system_prompt = random()::text WHERE id = 1 + floor(random() * 3); COMMIT; END IF;
        PERFORM pg_sleep(0.001); END LOOP; END $$;
    CREATE PROCEDURE clean(seconds float) LANGUAGE plpgsql AS $$
    DECLARE final timestamptz := clock_timestamp() + seconds * interval '1 s';
    BEGIN WHILE clock_timestamp() < final LOOP
        PERFORM prompt_cache._compact_nonces(); COMMIT; PERFORM prompt_cache.flush(); COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$});
$node->wait_for_catchup($standby);
my @sessions = (
    start_session($node, 'chat', 'CALL watch(5, 1, 20)'),
    start_session($node, 'chat', "SET prompt_cache.memory = off;\nCALL watch(5, 1, 20)"),
    start_session($standby, 'chat', 'CALL watch(5, 1, 20)'),
    start_session($standby, 'chat', "SET prompt_cache.memory = off;\nCALL watch(5, 1, 20)"),
    start_session($node, 'chat', 'CALL edit(5)'), start_session($node, 'chat', 'CALL edit(5)'),
    start_session($node, 'chat', 'CALL clean(5)'));
for my $name ('primary', 'primary, table only', 'standby', 'standby, table only', 'writer', 'writer', 'housekeeping')
{
    my ($out, $err) = finish_session(shift @sessions);
    is($err, '', "$name: no error");
    next if $name =~ /writer|housekeeping/;
    my ($reads, undef, $wrong) = split /\|/, $out;
    cmp_ok($reads, '>', 1000, "$name: many prompts were read during housekeeping");
    is($wrong, 0, "$name: none of them wrong");
}
sql('SELECT prompt_cache._compact_nonces()');
($rows, $tags) = nonces() =~ /(\d+) rows of (\d+)/;
is($rows, $tags, 'in the end there is a row a tag');
is(sql('SELECT count(*) FROM prompt_cache.verify()'), '0', 'and verify() finds nothing');
is($standby->safe_psql('chat', 'SELECT pg_is_in_recovery()'), 't', 'the standby is still one');
unlike(slurp_file($node->logfile), qr/was not compacted|were not deleted|deadlock/, 'no round of housekeeping has failed');

# More than a round's worth of tags
sql(q{INSERT INTO users SELECT u, 1 + u % 5, 'u' FROM generate_series(1001, 3200) u;
    DO $$ BEGIN FOR u IN 1001..3200 LOOP UPDATE users SET system_prompt = 'a' WHERE user_id = u; COMMIT; UPDATE users SET system_prompt = 'b' WHERE user_id = u; COMMIT; END LOOP; END $$});
$sum = sql($stamps);
my ($from, $slices) = ('', 0);
do
{
    my ($tag, $salt) = split /\|/, $from;
    $from = sql('SELECT * FROM prompt_cache._compact_nonces(' . ($from ? "'$tag', '$salt'" : '') . ')');
    cmp_ok(sql($stamps) eq $sum, '==', 1, 'a slice changes no stamp') if $slices < 2;
} while (++$slices < 20 && $from ne '|');
cmp_ok($slices, '>', 2, 'a large table is gone through in slices');
cmp_ok((nonces() =~ /(\d+) rows/)[0], '<', $tags + 2200 + $slices, 'which leave at most a row each for the next pass');
sql('SELECT prompt_cache._compact_nonces(' . join(', ', map { "'$_'" } split /\|/, $from) . ')') while ($from = sql('SELECT tag - 1, 0 FROM prompt_cache.tag_nonce GROUP BY tag HAVING count(*) > 1 LIMIT 1'));
($rows, $tags) = nonces() =~ /(\d+) rows of (\d+)/;
is($rows, $tags, 'until there is not');

# The table is written anew only when no snapshot anywhere can tell: not on the primary, and not an older one on the standby, where
# rows that are frozen too early would be seen too early.
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = off');
$standby->reload;
$node->poll_query_until('postgres', 'SELECT bool_and(backend_xmin IS NULL) FROM pg_stat_replication');
$node->wait_for_catchup($standby);
my $reader = $standby->background_psql('chat');
my $all_exact = 'SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) = prompt_cache.build(user_id)) = count(*) FROM users WHERE user_id <= 60';
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($reader->query_safe($all_exact), 't', 'a snapshot on the standby');
$sum = sql($stamps);
sql(q{UPDATE users SET system_prompt = 'after the snapshot' WHERE user_id <= 60; SELECT count(prompt_cache.prompt(user_id)) FROM users});
is(sql('SELECT prompt_cache._nonces_are_bloated(), prompt_cache._rewrite_nonces()'), 't|f', 'a bloated table is left as it is while rows are not frozen');
is(sql('VACUUM (FREEZE) prompt_cache.tag_nonce; SELECT prompt_cache._rewrite_nonces()'), 't', 'once they are it is written anew');
is(sql('SELECT prompt_cache._nonces_are_bloated()'), 'f', 'and small');
sleep 1;
is($reader->query_safe($all_exact), 't', 'the older snapshot on the standby is served exactly');
is($reader->query_safe($stamps), $sum, 'and sees the stamps that it saw');
$reader->query_safe('COMMIT');
$reader->quit;
$node->wait_for_catchup($standby);
is($standby->safe_psql('chat', $stamps), sql($stamps), 'then the standby follows');
is($standby->safe_psql('chat', $all_exact), 't', 'exactly');

# A standby has no worker; once promoted it has, and the rows that came to it are still good.
is($standby->safe_psql('chat', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('prompt_cache launcher', 'prompt_cache worker')}), '0', 'a standby has neither launcher nor worker');
sql('SELECT count(prompt_cache.prompt(user_id)) FROM users; SELECT prompt_cache.flush()');
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
is($standby->safe_psql('chat', $from_table), 'database ' . $standby->safe_psql('chat', 'SELECT count(*) FROM users'), 'after promotion rows saved before are used');
$standby->safe_psql('chat', q{UPDATE users SET system_prompt = 'promoted' WHERE user_id < 20; SELECT count(prompt_cache.prompt(user_id)) FROM users});
ok($standby->poll_query_until('chat', q{SELECT count(*) = 19 FROM prompt_cache.user_prompt_cache WHERE replaced_at IS NULL AND cached_prompt LIKE '%promoted'}), 'and its worker saves new ones');
is(exact($standby, 'chat') =~ /^(\d+) of \1$/, 1, 'which are exact');
$standby->stop;

done_testing();
