# pg_upgrade takes everything along: it starts servers that preload the library, or one that does not, and the new cluster answers
# from the rows that the old one has saved, except for what has changed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $old = new_server('old', "autovacuum = off\n");
load_chat($old, 'chat');
load_chat($old, 'keys', 'uuid');
for my $database ('chat', 'keys')
{
    $old->safe_psql($database, q{SELECT count(prompt_cache.prompt_key(user_id::text)) FROM users; SELECT prompt_cache.flush();
        CREATE ROLE reader_} . $database . qq{; SELECT prompt_cache.allow('reader_$database')});
    $old->safe_psql($database, "UPDATE users SET system_prompt = 'changed' WHERE user_id = '" . key($database eq 'chat' ? 'bigint' : 'uuid', 6) . "'");
}
my $prompt = answer($old, 'chat', 2) =~ s/^\w+\|//r;
$old->stop;

for my $preload ('prompt_cache', '')
{
    my $new = new_server($preload ? 'new' : 'plain', "autovacuum = off\nshared_preload_libraries = '$preload'\n");
    my $bindir = $new->config_data('--bindir');
    $new->stop;
    chdir $new->basedir or die $!;
    $new->command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
        '-s', $new->host, '-p', $old->port, '-P', $new->port ], "pg_upgrade, preloading '$preload'");
    $new->start;
    unless ($preload)
    {
        is(answer($new, 'chat', 2), "built|$prompt", 'not preloaded, everything is built');
        is(exact($new, $_), '60 of 60', "$_: all prompts are exact") for 'chat', 'keys';
        $new->append_conf('postgresql.conf', "shared_preload_libraries = 'prompt_cache'");
        $new->restart;
    }
    for my $database ('chat', 'keys')
    {
        my $type = $database eq 'chat' ? 'bigint' : 'uuid';
        is(source_of($new, $database, 2, $type), 'database', "$database: what was saved before answers");
        is(source_of($new, $database, 2, $type), 'memory', "$database: then memory");
        like(answer($new, $database, 6, $type), qr/^built\|.*changed$/s, "$database: but not for a user that has changed since");
        is(exact($new, $database), '60 of 60', "$database: all prompts are exact");
        is($new->safe_psql($database, 'SELECT count(*) FROM prompt_cache.verify()'), 0, "$database: verify() finds nothing");
        is($new->safe_psql($database, q{SELECT prompt_cache.health() ->> 'status'}), 'ok', "$database: health() is ok");
        is($new->safe_psql($database, "SET ROLE reader_$database; SELECT prompt_cache.prompt_key('" . key($type, 2) . "') IS NOT NULL"), 't', "$database: rights are kept");
        $new->safe_psql($database, "UPDATE users SET system_prompt = 'after' WHERE user_id = '" . key($type, 2) . "'");
        like(answer($new, $database, 2, $type), qr/^built\|.*after$/s, "$database: a change is seen");
        my $sound = 'SELECT sound, problem IS NULL FROM prompt_cache.attachments';
        is($new->safe_psql($database, $sound), 't|t', "$database: the attachment is sound");
        $new->safe_psql($database, 'ALTER TABLE users ADD draft text; ALTER TABLE users RENAME system_prompt TO before; ALTER TABLE users RENAME draft TO system_prompt');
        is($new->safe_psql($database, $sound), 't|f', "$database: which columns attach() named is kept");
    }
    $new->stop;
}
done_testing();
