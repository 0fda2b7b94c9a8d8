# When what proves a change cannot be written, the change itself fails: nothing is committed that the table of the durable tier
# would not know of. Readers go on. A limit on the size of files stands for a full disk.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('disk_full', "autovacuum = off\nmax_wal_size = 1GB\n");
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
sub limit { system_or_bail('prlimit', '--pid', $postmaster, '--fsize=' . shift); return; }

my $fill = 'SELECT count(*) FROM generate_series(1, 60) u, prompt_cache.get_or_build(u)';
is(sql("$fill; SELECT prompt_cache.flush(); $fill WHERE source = 'memory'"), "60\n60\n60", 'all are in memory and in the table');
my $random = q{('x' || left(md5(random()::text), 16))::bit(64)::bigint};
limit(18 * 1024 * 1024 . ':');
my ($out, $err) = run_session($node, 'chat', "\\set ON_ERROR_STOP on\n" . "INSERT INTO prompt_cache.tag_nonce SELECT $random, $random, 1 FROM generate_series(1, 20000);\n" x 40);
like($err, qr/could not (extend|write to) file/, 'no file can grow any more');
1 while $node->psql('chat', "INSERT INTO prompt_cache.tag_nonce SELECT $random, $random, 1 FROM generate_series(1, 50)") == 0;

# One by one until there is no room for a nonce; each either fails or is seen
my ($failed, $text) = (0, '');
for my $try (1 .. 300)
{
    my $before = sql('SELECT system_prompt FROM users WHERE user_id = 2');
    my $code = $node->psql('chat', "UPDATE users SET system_prompt = 'try $try' WHERE user_id = 2", stderr => \$err);
    $text = $code ? $before : "try $try";
    $failed++ if $code;
    last if $failed == 3;
}
is($failed, 3, 'writes of prompts fail in the end');
like($err, qr/could not (extend|write to) file/, 'with the error of the file');
is(sql('SELECT system_prompt FROM users WHERE user_id = 2'), $text, 'what has failed is not there');
like(answer($node, 'chat', 2), qr/\Q$text\E$/, 'nor in the prompt');
is(source_of($node, 'chat', 2), 'memory', 'readers go on, from memory');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');
is($node->psql('chat', 'UPDATE users SET last_login = now()'), 0, 'writes of other columns go on');
isnt($node->psql('chat', "BEGIN; UPDATE users SET system_prompt = 'prepared' WHERE user_id = 6; PREPARE TRANSACTION 'full'", on_error_stop => 1), 0, 'PREPARE fails');
is(sql('SELECT count(*) FROM pg_prepared_xacts'), 0, 'and leaves nothing');

# After a crash there is room again
$node->stop('immediate');
$node->start;
is(source_of($node, 'chat', 6), 'database', 'what has failed has not made a row useless');
like(answer($node, 'chat', 2), qr/\Q$text\E$/, 'the last change that was committed is known');
sql(q{UPDATE users SET system_prompt = 'room again' WHERE user_id = 2});
like(answer($node, 'chat', 2), qr/^built\|.*room again$/s, 'writes work again');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');

$node->stop;
done_testing();
