#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/packed_support.hpp"
#include "layer/batch_runner.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/io/expert_residency.hpp"
#include "moe/layer/any_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::expert_residency_test {

namespace {

using moe::ErrorCode;
using moe::ExpertId;
using moe::ExpertRanges;
using moe::ExpertResidency;
using moe::PackedFile;
using moe::PackedOrder;
using moe::Pages;
using moe::WantedExpert;

using Range = std::span<const std::byte>;

/// Pages of 64 bytes of a system that knows what it is told, and writes down what it is asked for.
class PagesOfTests : public Pages {
public:
    static constexpr std::size_t bytes = 64;

    [[nodiscard]] std::size_t page_bytes() const override { return bytes; }
    [[nodiscard]] bool resident(Range range) const override {
        note('?', range);
        return std::none_of(range.begin(), range.end(), [this](const std::byte& at) { return gone.count(&at) > 0; });
    }
    void start_reading(Range range) const override { note('s', range); }
    [[nodiscard]] Read read(Range range) const override {
        note('r', range);
        return answer;
    }
    void let_go(Range range) const override { note('c', range); }

    /// The ranges of the calls of one kind, in order.
    [[nodiscard]] std::vector<std::pair<const std::byte*, std::size_t>> calls(char kind) const {
        std::vector<std::pair<const std::byte*, std::size_t>> found;
        for (const auto& [what, range] : notes) {
            if (what == kind) {
                found.emplace_back(range.data(), range.size());
            }
        }
        return found;
    }

    std::set<const std::byte*> gone;
    Read answer = Read::done;
    mutable std::vector<std::pair<char, Range>> notes;

private:
    void note(char what, Range range) const {
        const std::scoped_lock lock(mutex_);
        notes.emplace_back(what, range);
    }
    mutable std::mutex mutex_;
};

/// Four experts of 100 bytes at the begin of a page and of 10 a page behind their end.
struct Experts {
    moe::AlignedBuffer memory{4096};
    ExpertRanges ranges{4};

    Experts() {
        for (std::size_t e = 0; e < 4; ++e) {
            ranges.add(e, bytes(256 * e, 100));
            ranges.add(e, bytes(256 * e + 192, 10));
        }
    }
    [[nodiscard]] Range bytes(std::size_t at, std::size_t n) const { return {memory.data() + at, n}; }
    [[nodiscard]] std::pair<const std::byte*, std::size_t> call(std::size_t at, std::size_t n) const {
        return {memory.data() + at, n};
    }
};

std::vector<WantedExpert> wanted(std::initializer_list<ExpertId> ids) {
    std::vector<WantedExpert> result;
    for (const ExpertId id : ids) {
        result.push_back({.expert = id});
    }
    return result;
}

/// A packed file in one of the orders, mapped; its pages can be dropped.
struct MappedExperts {
    moe_test::TemporaryDirectory directory;
    moe_test::LayerCase<float> layer_case;
    std::string path = directory.file("experts.moe");

    MappedExperts(const moe_test::LayerShape& shape, PackedOrder order) : layer_case(shape, 5) {
        moe::write_packed(path, moe::PackedExperts<moe::Int8, moe::AnyForm>(layer_case.bank()), moe::SerialExecutor{},
                          order);
    }

    /// Takes the pages of an expert out of the process and, where the file system has any, out of the cache.
    void drop(const ExpertRanges& ranges, std::size_t e) const {
        const std::size_t page = Pages().page_bytes();
        for (const Range range : ranges.of(e)) {
            const Range whole = moe::pages_of(range, page);
            REQUIRE(::madvise(const_cast<std::byte*>(whole.data()), whole.size(), MADV_DONTNEED) == 0);
        }
        const int file = ::open(path.c_str(), O_RDONLY);
        REQUIRE(file >= 0);
        CHECK(::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);  // what others have mapped stays
        ::close(file);
    }
};

}  // namespace

TEST_CASE("pages are rounded outwards to read them, inwards to let them go", "[residency]") {
    alignas(64) static const std::byte memory[512]{};
    const auto of = [](std::size_t at, std::size_t n) {
        const Range pages = moe::pages_of(Range(memory + at, n), 64);
        return std::pair(pages.data() - memory, pages.size());
    };
    const auto within = [](std::size_t at, std::size_t n) {
        const Range pages = moe::pages_within(Range(memory + at, n), 64);
        return std::pair(pages.empty() ? 0 : pages.data() - memory, pages.size());
    };
    using Expected = std::pair<std::ptrdiff_t, std::size_t>;
    CHECK(of(64, 64) == Expected(64, 64));
    CHECK(of(65, 63) == Expected(64, 64));
    CHECK(of(65, 64) == Expected(64, 128));
    CHECK(of(127, 2) == Expected(64, 128));
    CHECK(of(100, 0).second == 0);
    CHECK(within(64, 64) == Expected(64, 64));
    CHECK(within(64, 127) == Expected(64, 64));
    CHECK(within(63, 65) == Expected(64, 64));
    CHECK(within(63, 130) == Expected(64, 128));
    CHECK(within(65, 126) == Expected(0, 0));
    CHECK(within(65, 127) == Expected(128, 64));
    CHECK(within(70, 10) == Expected(0, 0));
    CHECK(within(64, 0) == Expected(0, 0));
}

TEST_CASE("ranges say where each expert is", "[residency]") {
    static const std::byte memory[120]{};
    ExpertRanges ranges(3);
    ranges.add_stacked(Range(memory, 60));
    ranges.add(1, Range(memory + 40, 5));  // right behind its other bytes
    ranges.add(2, Range(memory + 100, 20));
    ranges.add(2, Range{});
    CHECK(ranges.n_experts() == 3);
    CHECK(ranges.of(0).size() == 1);
    CHECK(ranges.of(0)[0].data() == memory);
    CHECK(ranges.bytes(0) == 20);
    CHECK(ranges.of(1).size() == 1);
    CHECK(ranges.bytes(1) == 25);
    CHECK(ranges.of(2).size() == 2);
    CHECK(ranges.bytes(2) == 40);
    const auto beyond = moe_test::error_of([&] { ranges.add(3, Range(memory, 1)); });
    CHECK(beyond.code == ErrorCode::range);
    CHECK_THAT(beyond.text, moe_test::contains("expert 3 of 3"));
    CHECK(moe_test::error_of([&] { (void)ranges.of(3); }).code == ErrorCode::range);
    CHECK(moe_test::error_of([&] { (void)ranges.bytes(4); }).code == ErrorCode::range);
    const auto uneven = moe_test::error_of([&] { ranges.add_stacked(Range(memory, 61)); });
    CHECK(uneven.code == ErrorCode::shape);
    CHECK_THAT(uneven.text, moe_test::contains("61 bytes") && moe_test::contains("3 experts"));
    CHECK(moe_test::error_of([&] { ExpertRanges(0).add_stacked(Range(memory, 60)); }).code == ErrorCode::shape);
}

TEST_CASE("experts that are not wholly in memory are asked for and brought, with all their pages", "[residency]") {
    const Experts experts;
    PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {}, &pages);
    pages.gone = {experts.memory.data() + 256 + 99, experts.memory.data() + 512 + 192};
    auto batch = wanted({0, 1, 2});
    residency.want(batch);
    CHECK(batch[0].there);
    CHECK_FALSE(batch[1].there);  // of its pages one byte is enough
    CHECK_FALSE(batch[2].there);
    CHECK_FALSE((batch[0].begins_wave || batch[1].begins_wave || batch[2].begins_wave));
    CHECK(pages.calls('s').empty());
    residency.ask(1);
    CHECK(pages.calls('s') == std::vector{experts.call(256, 128)});  // its other range is there
    CHECK(pages.calls('r').empty());
    residency.bring(1);
    CHECK(pages.calls('r') == std::vector{experts.call(256, 128)});
    pages.gone.clear();  // it has come meanwhile
    residency.bring(2);
    CHECK(pages.calls('r').size() == 1);
    CHECK(pages.calls('c').empty());
}

TEST_CASE("experts are let go once when they have cooled, and no others", "[residency]") {
    const Experts experts;
    PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {.cool_after = 3}, &pages);
    const auto run = [&](std::initializer_list<ExpertId> ids) {
        auto batch = wanted(ids);
        residency.want(batch);
    };
    run({0, 1});
    run({1});
    run({1});
    CHECK(pages.calls('c').empty());
    run({1});                                                     // the third without expert 0
    CHECK(pages.calls('c') == std::vector{experts.call(0, 64)});  // what has other bytes, too, stays
    for (int i = 0; i < 5; ++i) {
        run({1});
    }
    CHECK(pages.calls('c').size() == 1);
    run({0});
    run({2});
    run({2});
    CHECK(pages.calls('c') == std::vector{experts.call(0, 64), experts.call(256, 64)});
    run({2});
    CHECK(pages.calls('c').size() == 3);  // expert 0 again

    PagesOfTests others;
    ExpertResidency keeps(experts.ranges, {.cool_after = 0}, &others);
    for (int i = 0; i < 200; ++i) {
        auto batch = wanted({i % 100 == 0 ? 0 : 1});
        keeps.want(batch);
    }
    CHECK(others.calls('c').empty());
}

TEST_CASE("waves hold as many bytes as they may, and one expert at least", "[residency]") {
    const Experts experts;  // of 110 bytes
    const auto begins = [&](std::size_t wave_bytes) {
        PagesOfTests pages;
        ExpertResidency residency(experts.ranges, {.wave_bytes = wave_bytes}, &pages);
        auto batch = wanted({0, 1, 2, 3});
        residency.want(batch);
        std::vector<bool> result;
        for (std::size_t i = 1; i < batch.size(); ++i) {
            result.push_back(batch[i].begins_wave);
        }
        return result;
    };
    CHECK(begins(0) == std::vector{true, true, true});
    CHECK(begins(219) == std::vector{true, true, true});
    CHECK(begins(220) == std::vector{false, true, false});
    CHECK(begins(330) == std::vector{false, false, true});
    CHECK(begins(440) == std::vector{false, false, false});
}

TEST_CASE("what is there when a batch begins is asked for all the same when its wave is a later one", "[residency]") {
    const Experts experts;
    PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {.wave_bytes = 220}, &pages);
    auto batch = wanted({0, 1, 2, 3});
    residency.want(batch);
    CHECK((batch[0].there && batch[1].there));
    CHECK_FALSE((batch[2].there || batch[3].there));
    ExpertResidency alone(experts.ranges, {.wave_bytes = 0}, &pages);
    batch = wanted({0, 1});
    alone.want(batch);
    CHECK(batch[0].there);
    CHECK_FALSE(batch[1].there);
}

TEST_CASE("where the system does not tell what is there, all are asked for", "[residency]") {
    const Experts experts;
    PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {.look = false}, &pages);
    auto batch = wanted({1, 3});
    residency.want(batch);
    CHECK_FALSE((batch[0].there || batch[1].there));
    residency.ask(1);
    residency.bring(1);
    CHECK(pages.calls('s') == std::vector{experts.call(256, 128), experts.call(256 + 192, 64)});
    CHECK(pages.calls('r') == pages.calls('s'));
    CHECK(pages.calls('?').empty());
}

TEST_CASE("a system that cannot read on request, and a file that cannot be read", "[residency]") {
    const Experts experts;
    PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {}, &pages);
    pages.gone = {experts.memory.data() + 512, experts.memory.data() + 512 + 192};
    pages.answer = Pages::Read::unsupported;
    CHECK_NOTHROW(residency.bring(2));
    CHECK(pages.calls('r').size() == 2);
    pages.answer = Pages::Read::failed;
    const auto error = moe_test::error_of([&] { residency.bring(2); });
    CHECK(error.code == ErrorCode::file);
    CHECK_THAT(error.text, moe_test::contains("100 bytes of expert 2"));
}

TEST_CASE("a layer of more experts than there are ranges is refused", "[residency]") {
    const Experts experts;
    const PagesOfTests pages;
    ExpertResidency residency(experts.ranges, {}, &pages);
    for (const ExpertId id : {4, -1}) {
        auto batch = wanted({id});
        const auto error = moe_test::error_of([&] { residency.want(batch); });
        CHECK(error.code == ErrorCode::range);
        CHECK_THAT(error.text,
                   moe_test::contains("an expert " + std::to_string(id)) && moe_test::contains("those of 4"));
        CHECK(moe_test::error_of([&] { residency.ask(id); }).code == ErrorCode::range);
        CHECK(moe_test::error_of([&] { residency.bring(id); }).code == ErrorCode::range);
    }
}

TEST_CASE("a packed file has one range an expert where they lie apart, its weights and its biases elsewhere",
          "[residency]") {
    for (const PackedOrder order : {PackedOrder::together, PackedOrder::apart}) {
        const MappedExperts mapped(moe_test::odd_shape(), order);
        const PackedFile file = PackedFile::open(mapped.path);
        const ExpertRanges ranges = file.expert_ranges();
        REQUIRE(ranges.n_experts() == 3);
        const auto experts = file.experts<moe::Int8>(moe::AnyForm{});
        const auto& layout = experts.packed_layout();
        for (std::size_t e = 0; e < 3; ++e) {
            CHECK(ranges.of(e).size() == (order == PackedOrder::apart ? 1U : 2U));
            CHECK(ranges.of(e)[0].data() == file.data().data() + layout.hidden_panel(e, 0));
            CHECK(ranges.bytes(e) == layout.weight_bytes() + layout.bias_bytes());
            CHECK(ranges.of(e).back().data() + ranges.of(e).back().size() ==
                  file.data().data() + layout.hidden_bias(e, 0) + layout.bias_bytes());
        }
    }
}

TEST_CASE("the system reads what was dropped, and letting go drops nothing", "[residency]") {
    moe_test::LayerShape shape = moe_test::odd_shape();
    shape.d_model = shape.d_ff = 500;
    const MappedExperts mapped(shape, PackedOrder::apart);
    const PackedFile file = PackedFile::open(mapped.path, moe::Verify::header);
    const ExpertRanges ranges = file.expert_ranges();
    const Pages system;
    const Range range = moe::pages_of(ranges.of(1)[0], system.page_bytes());
    REQUIRE(range.size() > 100 * system.page_bytes());
    mapped.drop(ranges, 1);
    if (system.resident(range)) {
        WARN("the file system keeps its files in memory: only what is there is looked at");
    }
    system.start_reading(range);
    const Pages::Read read = system.read(range);
#if defined(__linux__)
    CHECK(read != Pages::Read::failed);
    CHECK((read == Pages::Read::unsupported || system.resident(range)));
#else
    CHECK(read == Pages::Read::unsupported);
#endif
    CHECK_NOTHROW(file.check_data());
    CHECK(system.resident(range));
    system.let_go(range);
    CHECK(system.resident(range));
    CHECK_NOTHROW(file.check_data());
}

TEST_CASE("a file that was shortened is an error, where the system can read on request", "[residency]") {
    moe_test::LayerShape shape = moe_test::odd_shape();
    shape.d_model = shape.d_ff = 500;
    const MappedExperts mapped(shape, PackedOrder::apart);
    const PackedFile file = PackedFile::open(mapped.path, moe::Verify::header);
    ExpertResidency residency(file.expert_ranges());
    if (Pages().read(moe::pages_of(residency.ranges().of(2)[0], Pages().page_bytes())) != Pages::Read::done) {
        WARN("this system does not read on request");
        return;
    }
    CHECK_NOTHROW(residency.bring(2));
    REQUIRE(::truncate(mapped.path.c_str(), 3 << 20) == 0);
    CHECK_NOTHROW(residency.bring(0));
    const auto error = moe_test::error_of([&] { residency.bring(2); });
    CHECK(error.code == ErrorCode::file);
    CHECK_THAT(error.text, moe_test::contains("of expert 2"));
}

TEST_CASE("layers over mapped files have the same bits whatever of them is in memory", "[residency]") {
    for (const PackedOrder order : {PackedOrder::together, PackedOrder::apart}) {
        moe_test::LayerShape shape = moe_test::odd_shape();
        shape.n_experts = 7;
        shape.d_model = 90;
        shape.d_ff = 70;
        const MappedExperts mapped(shape, order);
        const PackedFile file = PackedFile::open(mapped.path);
        const ExpertRanges ranges = file.expert_ranges();
        const moe::MoELayer layer{mapped.layer_case.router(moe::TokenChoice<>{.top_k = 2}),
                                  file.experts<moe::Int8>(moe::AnyForm{}), mapped.layer_case.shared(),
                                  mapped.layer_case.options()};
        std::size_t dropped = 0;
        for (std::uint64_t seed = 0; seed < 60; ++seed) {
            moe_test::Draw draw(seed);
            const std::size_t n = draw.size(1, 30);
            const moe_test::Batch<float> batch(draw, n, shape.d_model);
            const auto x = moe::view(batch.x.data(), n, shape.d_model);
            moe::Workspace workspace;
            std::vector<float> expected(n * shape.d_model);
            layer.forward(x, moe::view(expected.data(), n, shape.d_model), workspace);
            ExpertResidency residency(ranges, {.wave_bytes = draw.coin() ? 2 * ranges.bytes(0) : SIZE_MAX,
                                               .cool_after = draw.size(0, 2),
                                               .look = draw.size(0, 3) > 0});
            for (int call = 0; call < 3; ++call) {
                for (std::size_t e = 0; e < shape.n_experts; ++e) {
                    if (draw.coin()) {
                        mapped.drop(ranges, e);
                        ++dropped;
                    }
                }
                std::vector<float> y(n * shape.d_model);
                layer.forward(x, moe::view(y.data(), n, shape.d_model), workspace,
                              moe_test::ThreadExecutor(draw.size(1, 4)), {.residency = &residency});
                REQUIRE(moe_test::same_bits(y, expected));
            }
        }
        CHECK(dropped > 400);
    }
}

}  // namespace moe_test::expert_residency_test
