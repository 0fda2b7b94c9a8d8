# The workers look after 64 databases of a server. One more is served exactly, health() says what it has to do without, and it takes
# the place of a database that is dropped. And where there are no workers at all, health() says that.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('places', "prompt_cache.persist_naptime = '1h'\nautovacuum = off\nfsync = off\n");
load_chat($node, 'chat');
$node->safe_psql('postgres', join ";\n", map { "CREATE DATABASE chat_$_ TEMPLATE chat STRATEGY file_copy" } 1 .. 65);
sub sql { return $node->safe_psql(@_); }
my $state = q{SELECT h ->> 'status', h -> 'worker' ->> 'state' FROM prompt_cache.health() h};

sql("chat_$_", 'SELECT prompt_cache.prompt(2)') for 1 .. 63;    # and `chat`
is(sql('chat_63', $state), 'ok|idle', 'the last database that has a place is well');
is(sql('chat_65', $state), 'degraded|no place', 'one more has none');
like(sql('chat_65', q{SELECT prompt_cache.health() ->> 'reasons'}), qr/more databases use prompt_cache than its workers can look after/, 'and health() says why');
is(exact($node, 'chat_65'), '60 of 60', 'it is served exactly');
is(source_of($node, 'chat_65', 2), 'memory', 'from memory');
is(sql('chat_65', 'SELECT prompt_cache.flush()'), '60', 'and saved by flush()');
sql('chat_65', q{UPDATE users SET system_prompt = 'changed'});
is(exact($node, 'chat_65'), '60 of 60', 'changes are seen');
sql('postgres', 'DROP DATABASE chat_7');
sql('chat_65', 'SELECT prompt_cache.prompt(2)');
is(sql('chat_65', $state), 'ok|idle', 'the place of a database that is dropped is the next one\'s');
is(sql('chat_3', $state), 'ok|idle', 'the others keep theirs');

sql('chat_65', 'SELECT prompt_cache.flush()');
$node->stop;
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->start;
is(source_of($node, 'chat_65', 2), 'database', 'saved prompts are used');
is(sql('chat_65', $state), 'degraded|off', 'health() says that the launcher does not run');
like(sql('chat_65', q{SELECT prompt_cache.health() ->> 'reasons'}), qr/launcher of the workers does not run/, 'in words');
is(exact($node, 'chat_65'), '60 of 60', 'answers are exact');
$node->stop;

done_testing();
