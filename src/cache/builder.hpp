// Building a layer from the chat tables: one prepared query a layer, run as the owner of its table.
#pragma once

#include "cache/attachment.hpp"
#include "pg/postgres.hpp"

namespace prompt_cache {

// One layer in memory of this backend.
struct LayerLocal {
    bool found = false;                       // the row exists
    std::optional<std::string_view> pointer;  // of a user's layer: the tenant's key
    std::string_view text;                    // '' where the column is NULL
    bool storable = true;                     // no function or type of another time than the snapshot's
};

// A key as the caller gives it: an integer, or text that has to be of the key's type.
struct KeyInput {
    std::optional<std::int64_t> number;
    std::string_view text;
};

// The key in the output form of its type, which is what tags and entries are named by. `buffer` takes it
// where it has to be written; text keys are borrowed. Raises 22P02 for text that is not of the type, 42804
// for a number where the keys are not integers.
struct KeyBuffer {
    char bytes[64];
};
std::string_view canonical_key(KeyType type, const KeyInput& input, KeyBuffer& buffer);

// Is the text a key of the type, in output form?
bool fits(KeyType type, std::string_view key);

void install_layer_builder();

// ERROR 54001 while a layer is being built: a lookup inside of an expression.
void refuse_nested_lookup();

// Is there a row of this user, under the active snapshot?
bool user_exists(const Attachment& attachment, std::string_view key);

// Runs the layer's query under the active snapshot; what it returns lies in the current memory context. An
// error of the query is passed on untouched.
LayerLocal build_layer(const Attachment& attachment, core::LayerIndex layer, std::string_view key);

}  // namespace prompt_cache
