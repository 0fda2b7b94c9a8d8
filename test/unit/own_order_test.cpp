// The order of own changes: every small history of a transaction that puts, and the set of tags with their commands.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <sstream>

#include "own_order_model.hpp"

namespace {

using namespace prompt_cache::core;
using namespace prompt_cache::test;

std::string told(const std::vector<const char*>& steps) {
    std::ostringstream text;
    for (const char* step : steps) text << step << "; ";
    return text.str();
}

TEST(OwnOrder, EverySmallHistoryPublishesWhatIsThere) {
    OrderExplorer explorer({});
    EXPECT_TRUE(explorer.explore()) << told(explorer.witness);
    EXPECT_GT(explorer.states, 1000000u);
    EXPECT_GT(explorer.refused, 0u);
    EXPECT_GT(explorer.published_after_change, explorer.published / 10);  // write-through works
}

// Each part of the rule is needed.
void expect_wrong(const OrderOptions& options) {
    OrderExplorer explorer(options);
    EXPECT_FALSE(explorer.explore());
}
TEST(OwnOrderControls, Rule) {
    removed_rules = 1u << static_cast<unsigned>(Rule::kOwnOrder);
    expect_wrong({.steps = 4});
    removed_rules = 0;
}
TEST(OwnOrderControls, ChangeVoidsPut) {
    expect_wrong({.puts_survive = true});
}
TEST(OwnOrderControls, Undone) {
    expect_wrong({.undone_counts = true});
}
TEST(OwnOrderControls, StatementBesideLease) {
    expect_wrong({.lease_alone = true});
}
TEST(OwnOrderControls, LeaseOfAnother) {
    expect_wrong({.others_as_own = true});
}

// A change that writes no row must end its command too, or nothing could be put after it.
TEST(OwnOrder, DeclaredChangeIsSeenByTheNextStatement) {
    OrderExplorer careful({.steps = 3, .command_not_used = true}), plain({.steps = 3});
    EXPECT_TRUE(careful.explore() && plain.explore());
    EXPECT_LT(careful.accepted, plain.accepted);
}

TEST(TagSet, AgainstMap) {
    using Set = BoundedTagSet<64>;
    std::mt19937_64 random(1);
    const auto set = std::make_unique<Set>();
    for (unsigned round = 0; round < 2000; round++) {
        std::map<std::uint64_t, Command> model;
        Command command = 0;
        const bool overflows = round % 4 == 0;
        const unsigned tags = overflows ? 200 : 60;
        for (unsigned i = 0; i < 150; i++) {
            command += static_cast<Command>(random() % 2);
            const std::uint64_t tag = random() % tags * (round % 3 == 0 ? 128 : 1);  // 0 among them; many in one cell
            set->add(tag, command);
            model[tag] = command;
        }
        ASSERT_EQ(set->all(), model.size() > 64);
        for (std::uint64_t tag = 0; tag < 2 * tags; tag++) {
            const auto found = model.find(tag);
            ASSERT_EQ(set->contains(tag), set->all() || found != model.end());
            const Command last = set->all() ? command : found == model.end() ? 0 : found->second;
            const bool known = set->contains(tag);
            ASSERT_EQ(set->changed_since(tag, last), known);
            ASSERT_FALSE(set->changed_since(tag, last + 1));
        }
        if (!set->all()) { ASSERT_EQ(set->tags().size(), model.size()); }
        set->clear();
        ASSERT_TRUE(set->empty() && !set->contains(0) && !set->contains(1));
    }
}

}  // namespace
