// What is counted by pairs and classes, and several observers at once.

#include <moe/stats/co_activation.hpp>
#include <moe/stats/observers.hpp>
#include <moe/stats/specialisation.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "stats/record.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::groups_test {

namespace {

using Counts = std::vector<std::uint64_t>;
using Classes = std::vector<std::int32_t>;
using Record = moe_test::HandRecord<float>;

Counts all_of(moe::MatrixView<const std::uint64_t> counts) {
    return {counts.data(), counts.data() + counts.rows() * counts.cols()};
}
bool near(double a, double b) { return std::abs(a - b) <= 1e-14; }

/// A pass whose tokens are of `classes`.
void observe(moe::Specialisation<float>& by_class, const Classes& classes, const Record& record) {
    by_class.set_classes(classes);
    by_class.on_plan(record.view());
}

/// Writes down what it is told, and its name.
struct Named : moe::Observer<float> {
    Named(std::string* the_log, std::string the_name) : log(the_log), name(std::move(the_name)) {}
    void on_phase_begin(moe::Phase phase) override { *log += "+" + name + moe::phase_name(phase)[0] + " "; }
    void on_phase_end(moe::Phase phase) override { *log += "-" + name + moe::phase_name(phase)[0] + " "; }
    void on_plan(const moe::RoutingRecord<float>& record) override {
        *log += name + std::to_string(record.plan.n_tokens) + " ";
    }
    std::string* log;
    std::string name;
};

}  // namespace

TEST_CASE("CoActivation counts pairs of experts by token", "[stats]") {
    moe::CoActivation<float> pairs(3);
    Record record(3, {{0, 1}, {1, 0}, {0, 2}, {0}, {}, {1, 1, 2}, {0, 1, 2}});
    record.valid = {1, 1, 1, 1, 1, 1, 0};  // the last, which would go to all three, is padding
    pairs.on_plan(record.view());
    CHECK(all_of(pairs.counts()) == Counts{4, 2, 1, 2, 3, 1, 1, 1, 2});
    CHECK(pairs.conditional(0, 1) == 0.5);
    CHECK(pairs.conditional(1, 0) == 2.0 / 3);
    CHECK(pairs.conditional(0, 0) == 1);
    moe::CoActivation<float> more(3);
    more.on_plan(Record(3, {{2, 1}}).view());
    CHECK(std::isnan(more.conditional(0, 1)));
    pairs.merge(more);
    CHECK(all_of(pairs.counts()) == Counts{4, 2, 1, 2, 4, 2, 1, 2, 3});
    pairs.reset();
    CHECK(all_of(pairs.counts()) == Counts(9, 0));
}

TEST_CASE("CoActivation refuses plans and objects of other sizes", "[stats]") {
    using Pairs = moe::CoActivation<float>;
    Pairs pairs(3);
    CHECK(moe_test::error_of([&] { pairs.on_plan(Record(4, {{0}}).view()); }).text ==
          "CoActivation: a plan of 4 experts, this object counts 3");
    CHECK(moe_test::error_of([&] { pairs.merge(Pairs(2)); }).text == "CoActivation: to merge 2 experts with 3");
    CHECK(moe_test::error_of([] { Pairs(0); }).code == moe::ErrorCode::range);
    CHECK(moe_test::error_of([] { Pairs(std::size_t{1} << 40U); }).code == moe::ErrorCode::overflow);
}

TEST_CASE("Specialisation counts experts by the class of the token", "[stats]") {
    moe::Specialisation<float> by_class(3, 2);
    Record record(3, {{0, 1}, {0}, {2, 1}, {2}, {0, 2}, {0}});
    record.valid = {1, 1, 1, 1, 1, 0};
    observe(by_class, {0, 0, 1, 1, -1, 1}, record);
    CHECK(all_of(by_class.counts()) == Counts{2, 1, 0, 0, 1, 2});
    CHECK(Counts(by_class.tokens().begin(), by_class.tokens().end()) == Counts{2, 2});
    CHECK(by_class.share(0, 0) == 1);
    CHECK(by_class.share(0, 1) == 0.5);
    CHECK(by_class.share(1, 0) == 0);
    // p(c) = 1/2; given expert 0 or 2, 4 of 6 assignments, the class is known; given expert 1 it is not at all
    CHECK(near(by_class.information(), 2.0 / 3));
    moe::Specialisation<float> more(3, 2);
    observe(more, {1}, Record(3, {{1, 2}}));
    CHECK(std::isnan(more.share(0, 0)));
    CHECK(std::isnan(more.information()));
    by_class.merge(more);
    CHECK(all_of(by_class.counts()) == Counts{2, 1, 0, 0, 2, 3});
    by_class.reset();
    CHECK(all_of(by_class.counts()) == Counts(6, 0));
    CHECK(by_class.tokens()[1] == 0);
}

TEST_CASE("Specialisation: the ends of its scale", "[stats]") {
    moe::Specialisation<float> apart(2, 2);
    observe(apart, {0, 1, 1}, Record(2, {{0}, {1}, {1}}));
    CHECK(near(apart.information(), 1));
    moe::Specialisation<float> alike(2, 2);
    observe(alike, {0, 1}, Record(2, {{0, 1}, {1, 0}}));
    CHECK(near(alike.information(), 0));
}

TEST_CASE("Specialisation wants classes for every pass, and counts nothing of one it refuses", "[stats]") {
    moe::Specialisation<float> by_class(2, 2);
    const auto refusal = [&](const Classes& classes, std::size_t n_experts = 2) {
        return moe_test::error_of([&] { observe(by_class, classes, Record(n_experts, {{0}, {1}})); }).text;
    };
    CHECK(refusal({0}) == "Specialisation: 1 classes for 2 tokens; call set_classes before each pass");
    CHECK(refusal({0, 2}) == "Specialisation: token 1 is of class 2, the classes are 0..1 and -1 for none");
    CHECK(refusal({-2, 0}) == "Specialisation: token 0 is of class -2, the classes are 0..1 and -1 for none");
    CHECK(refusal({0, 1}, 3) == "Specialisation: a plan of 3 experts, this object counts 2");
    CHECK(all_of(by_class.counts()) == Counts(4, 0));
    observe(by_class, {0, 1}, Record(2, {{0}, {1}}));
    CHECK(moe_test::error_of([&] {
              by_class.on_plan(Record(2, {{0}, {1}}).view());
          }).code == moe::ErrorCode::shape);  // the classes were those of the pass before
    using Pair = moe::Specialisation<float>;
    CHECK(moe_test::error_of([] { Pair(0, 2); }).code == moe::ErrorCode::range);
    CHECK(moe_test::error_of([] { Pair(2, 0); }).code == moe::ErrorCode::range);
    CHECK(moe_test::error_of([&] { by_class.merge(Pair(2, 3)); }).text ==
          "Specialisation: to merge 3 classes and 2 experts with 2 and 2");
}

TEST_CASE("Observers tell each, nested", "[stats]") {
    std::string log;
    Named a(&log, "a");
    Named b(&log, "b");
    moe::Observers<float> both{&a};
    both.add(&b);
    moe::Observer<float>& observer = both;
    observer.on_phase_begin(moe::Phase::plan);
    observer.on_phase_end(moe::Phase::plan);
    observer.on_plan(Record(2, {{0}, {1}, {0}}).view());
    CHECK(log == "+ap +bp -bp -ap a3 b3 ");
    const auto caught = moe_test::error_of([&] { both.add(nullptr); });
    CHECK(caught.code == moe::ErrorCode::null_pointer);
    moe::Observers<float>{}.on_phase_begin(moe::Phase::plan);  // none is fine
}

}  // namespace moe_test::groups_test
