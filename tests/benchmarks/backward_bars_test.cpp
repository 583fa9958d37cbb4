#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/backward/bars.hpp"

namespace moe_test::backward_bars_test {

using namespace bench::backward;
using bench::Rival;
using bench::Statistics;
using Kind = Bar::Kind;

namespace {

constexpr double least = 1e-9;

/// On probes of 100 FMA operations and 10 bytes a second, of which forward and backward reach the fractions in 3
/// seconds.
Row row_of(const char* shape, std::size_t tokens, double of_peak, double of_read) {
    Row row;
    row.shape = bench::find_shape(shape);
    row.n_experts = row.shape->n_experts;
    row.tokens = tokens;
    row.threads = 2;
    row.inference = Statistics({0.8});
    row.library = {Statistics({1.0}), Statistics({2.0}), Statistics({3.0})};
    row.fma_peak = 100;
    row.read_bandwidth = 10;
    row.operations = of_peak * 3.0 * 100;
    row.bytes = of_read * 3.0 * 10;
    return row;
}

StepSeconds both(double seconds) { return {Statistics({0.0}), Statistics({seconds}), Statistics({seconds})}; }

std::vector<Kind> kinds(const std::vector<Bar>& bars) {
    std::vector<Kind> result;
    std::ranges::transform(bars, std::back_inserter(result), &Bar::kind);
    return result;
}

void check_bar(const std::vector<Bar>& bars, Kind kind, double figure, double limit, bool met) {
    CAPTURE(static_cast<int>(kind));
    const auto found = std::ranges::find(bars, kind, &Bar::kind);
    REQUIRE(found != bars.end());
    CHECK(std::abs(found->figure - figure) < least);
    CHECK(found->limit == limit);
    CHECK(found->met() == met);
}

}  // namespace

TEST_CASE("training is held against the roofline at 512 tokens, against the peak at 2048") {
    for (const char* shape : {"mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "olmoe-1b-7b"}) {
        CAPTURE(shape);
        const std::vector<Bar> few = bars_of(row_of(shape, 512, 0.4, 0.7));
        CHECK(kinds(few) == std::vector{Kind::roofline, Kind::backward});
        check_bar(few, Kind::roofline, 0.7, 0.75, false);
        check_bar(bars_of(row_of(shape, 512, 0.8, 0.7)), Kind::roofline, 0.8, 0.75, true);
        const std::vector<Bar> many = bars_of(row_of(shape, 2048, 0.7, 0.9));
        CHECK(kinds(many) == std::vector{Kind::peak, Kind::backward});
        check_bar(many, Kind::peak, 0.7, 0.66, true);
        check_bar(bars_of(row_of(shape, 2048, 0.65, 0.9)), Kind::peak, 0.65, 0.66, false);
    }
}

TEST_CASE("a backward pass is held against a forward pass that keeps nothing") {
    Row row = row_of("olmoe-1b-7b", 512, 0.8, 0.7);
    check_bar(bars_of(row), Kind::backward, 2.5, 2.3, false);
    row.inference = Statistics({1.0});
    check_bar(bars_of(row), Kind::backward, 2.0, 2.3, true);
}

TEST_CASE("two threads and rivals are bars of training where they were measured") {
    Row row = row_of("olmoe-1b-7b", 512, 0.8, 0.7);
    row.one_thread = both(5.7);
    row.rivals = {{Rival::eigen, both(3.0)}, {Rival::onednn, both(6.0)}};
    const std::vector<Bar> bars = bars_of(row);
    check_bar(bars, Kind::threads, 1.9, 1.85, true);
    check_bar(bars, Kind::eigen, 1.0, 1.0, false);  // as fast is not ahead
    check_bar(bars, Kind::onednn, 2.0, 1.0, true);
    row.one_thread = both(5.4);
    check_bar(bars_of(row), Kind::threads, 1.8, 1.85, false);
    row.threads = 4;
    CHECK(kinds(bars_of(row)) == std::vector{Kind::roofline, Kind::backward, Kind::eigen, Kind::onednn});
}

TEST_CASE("rows of training without a bar have none") {
    const auto none = [](const Row& row) { return bars_of(row).empty(); };
    CHECK(none(row_of("tiny", 512, 0.8, 0.7)));
    CHECK(none(row_of("gpt-oss-20b", 512, 0.8, 0.7)));
    CHECK(none(row_of("olmoe-1b-7b", 1024, 0.8, 0.7)));
    Row row = row_of("olmoe-1b-7b", 512, 0.8, 0.7);
    CHECK_FALSE(none(row));
    row.n_experts = 63;
    CHECK(none(row));
    row.n_experts = 64;
    row.wrong = true;
    CHECK(none(row));
}

TEST_CASE("a figure that is not a number meets no bar") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const Kind kind : {Kind::roofline, Kind::peak, Kind::threads, Kind::eigen, Kind::onednn, Kind::backward}) {
        CHECK_FALSE(Bar{kind, nan, 1}.met());
    }
}

TEST_CASE("operations and bytes of a training step are those of its products and matrices") {
    // 2 of 8 experts of 128 x 96 and a shared one of 128 x 64
    const bench::Shape& shape = *bench::find_shape("tiny");
    CHECK(step_operations(shape, 5) == 18.0 * 5 * 128 * (2 * 96 + 64));
    CHECK(step_bytes(shape, 7) == 16.0 * 3 * 128 * (7 * 96 + 64));
    CHECK(row_name(shape, 5) == "tiny/f32/backward/tokens:5");
    const Row row = row_of("tiny", 5, 0.25, 0.5);
    CHECK(std::abs(row.fraction_of_peak() - 0.25) < least);
    CHECK(std::abs(row.fraction_of_roofline() - 0.5) < least);
    CHECK(row.speedup(Rival::eigen) == 0);
    CHECK(row.speedup_threads() == 0);
}

TEST_CASE("the table of training marks what is missed and counts what is met") {
    std::vector<Row> rows{row_of("qwen3-30b-a3b", 512, 0.4, 0.7), row_of("qwen3-30b-a3b", 2048, 0.7, 0.2),
                          row_of("tiny", 512, 0.7, 0.2)};
    rows[0].rivals = {{Rival::onednn, both(6.0)}};
    rows[1].note = "noisy";
    const std::string text = bars_text(rows);
    INFO(text);
    CHECK(text.find("qwen3-30b-a3b         512        -    0.700!   2.500!       -        -    2.000 ") !=
          std::string::npos);
    CHECK(text.find("qwen3-30b-a3b        2048~   0.700        -    2.500!") != std::string::npos);
    CHECK(text.find("tiny") == std::string::npos);
    CHECK(text.find("2 of 5 bars are met") != std::string::npos);
    CHECK(bars_text({rows.data() + 2, 1}).find("none of these rows has one") != std::string::npos);
}

}  // namespace moe_test::backward_bars_test
