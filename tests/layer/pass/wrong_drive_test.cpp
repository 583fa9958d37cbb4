#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::wrong_drive_test {

/// A pass driven in every way but the right one: each an Error that says what happened, and never wrong values.
namespace {

using moe::ErrorCode;
using moe::Phase;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t d = 12;
constexpr std::size_t n = 40;

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = 5;
    result.d_model = d;
    result.d_ff = 9;
    return result;
}

/// Fails on a token's choice when told to.
struct MoodyGate {
    const bool* fails = nullptr;
    bool foreign = false;

    static int max_per_token() { return 2; }
    int select(std::span<const float> logits, moe::Selection out) const {
        if (*fails && foreign) {
            throw std::runtime_error("not today");
        }
        moe::ensure(!*fails, ErrorCode::range, "MoodyGate: not today");
        return moe::TokenChoice<>{.top_k = 2}.select(logits, out);
    }
};

struct Host {
    bool gate_fails = false;
    bool foreign = false;
    moe_test::LayerCase<float> layer_case{shape(), 3};
    moe::MoELayer<moe::Router<float, MoodyGate>, moe_test::LayerCase<float>::Bank> layer{
        layer_case.router(MoodyGate{&gate_fails, foreign}), layer_case.bank()};
    std::vector<float> x;
    std::vector<float> y = std::vector<float>(n * d, 7.0F);
    moe::Workspace workspace;

    explicit Host(bool throws_foreign = false) : foreign(throws_foreign) {
        moe_test::Draw draw(1);
        x = moe_test::random_elements<float>(draw, n * d, 1);
    }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    [[nodiscard]] auto prepare(std::size_t n_workers) {
        return layer.prepare(moe::view(std::as_const(x).data(), n, d), moe::view(y.data(), n, d), workspace, n_workers);
    }
    [[nodiscard]] std::vector<float> expected() const {
        std::vector<float> result(n * d);
        moe::Workspace own;
        layer.forward(moe::view(x.data(), n, d), moe::view(result.data(), n, d), own);
        return result;
    }
};

template <class Pass>
void run_all(Pass& pass, int first, int end, std::size_t nth) {
    for (int phase = first; phase < end; ++phase) {
        for (std::size_t ith = 0; ith < nth; ++ith) {
            pass.run_phase(static_cast<Phase>(phase), ith, nth);
        }
    }
}

}  // namespace

TEST_CASE("a pass run twice, in whole or in part", "[phases]") {
    Host host;
    auto pass = host.prepare(2);
    run_all(pass, 0, moe::n_phases, 2);
    CHECK(moe_test::same_bits(host.y, host.expected()));
    for (int phase = 0; phase < moe::n_phases; ++phase) {
        const auto error = error_of([&] { pass.run_phase(static_cast<Phase>(phase), 1, 2); });
        CHECK(error.code == ErrorCode::state);
        CHECK_THAT(error.text, contains("worker 1 has run phase " + std::string(moe::phase_name(Phase(phase)))));
    }
    const auto error = error_of([&] { pass.run(moe::SerialExecutor{}, Phase::logits, Phase::output); });
    CHECK(error.code == ErrorCode::state);
    CHECK(moe_test::same_bits(host.y, host.expected()));
}

TEST_CASE("a phase left out, and one that is none", "[phases]") {
    Host host;
    for (int left_out = 0; left_out + 1 < moe::n_phases; ++left_out) {
        host.y.assign(n * d, 7.0F);
        auto pass = host.prepare(1);
        run_all(pass, 0, left_out, 1);
        const auto error = error_of([&] { pass.run_phase(static_cast<Phase>(left_out + 1), 0, 1); });
        CHECK(error.code == ErrorCode::state);
        CHECK_THAT(error.text,
                   contains("no worker had run phase " + std::string(moe::phase_name(static_cast<Phase>(left_out)))));
        run_all(pass, left_out, moe::n_phases, 1);  // an error of that kind spoils nothing
        CHECK(moe_test::same_bits(host.y, host.expected()));
    }
    auto pass = host.prepare(1);
    const auto error = error_of([&] { pass.run_phase(static_cast<Phase>(9), 0, 1); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("no phase 9"));
}

TEST_CASE("a worker missing, worker 0 too, or there twice", "[phases]") {
    Host host;
    for (const std::size_t missing : {0U, 1U, 2U}) {
        auto pass = host.prepare(3);
        for (std::size_t ith = 0; ith < 3; ++ith) {
            if (ith != missing) {
                pass.run_phase(Phase::logits, ith, 3);
            }
        }
        const auto early = error_of([&] { pass.run_phase(Phase::gating, 0, 3); });
        CHECK(early.code == ErrorCode::state);
        CHECK_THAT(early.text, contains("phase gating was begun when 2 of 3 workers had ended phase logits"));
        const auto twice = error_of([&] { pass.run_phase(Phase::logits, (missing + 1) % 3, 3); });
        CHECK(twice.code == ErrorCode::state);
        const auto other = error_of([&] { pass.run_phase(Phase::logits, missing == 2 ? 1 : missing, 2); });
        CHECK(other.code == ErrorCode::state);
        pass.run_phase(Phase::logits, missing, 3);
        run_all(pass, 1, moe::n_phases, 3);
        CHECK(moe_test::same_bits(host.y, host.expected()));
    }
}

TEST_CASE("phases of one pass may have different numbers of workers", "[phases]") {
    Host host;
    auto pass = host.prepare(4);
    for (int phase = 0; phase < moe::n_phases; ++phase) {
        run_all(pass, phase, phase + 1, 1 + static_cast<std::size_t>(phase) % 4);
    }
    CHECK(moe_test::same_bits(host.y, host.expected()));
}

TEST_CASE("a pass for routing alone has no experts to run", "[phases]") {
    Host host;
    auto pass = host.layer.prepare_route(moe::view(std::as_const(host.x).data(), n, d), host.workspace, 1);
    run_all(pass, 0, 3, 1);
    CHECK(pass.plan().n_assignments() == 2 * n);
    const auto error = error_of([&] { pass.run_phase(Phase::hidden, 0, 1); });
    CHECK(error.code == ErrorCode::state);
    CHECK_THAT(error.text, contains("for routing alone"));
}

TEST_CASE("a workspace serves one pass at a time, and is free when that has ended", "[phases]") {
    Host host;
    const auto refused = [&](auto&& call) {
        const auto error = error_of(call);
        CHECK(error.code == ErrorCode::state);
        CHECK_THAT(error.text, contains("a call or a prepared pass is at work in it"));
    };
    const auto forward = [&] {
        std::vector<float> other(n * d);
        host.layer.forward(moe::view(std::as_const(host.x).data(), n, d), moe::view(other.data(), n, d),
                           host.workspace);
    };
    {
        auto pass = host.prepare(1);
        for (int phase = 0; phase < moe::n_phases; ++phase) {
            refused(forward);
            refused([&] { host.workspace.reserve(std::size_t{1} << 24U); });
            refused([&] { (void)host.workspace.arena(); });
            refused([&] { const moe::Workspace taken(std::move(host.workspace)); });
            refused([&] { host.workspace = moe::Workspace(); });
            refused([&] { (void)host.prepare(1); });
            run_all(pass, phase, phase + 1, 1);
        }
        CHECK(moe_test::same_bits(host.y, host.expected()));
        CHECK_NOTHROW(forward());  // while the pass, which has ended, is still there
    }
    { const auto abandoned = host.prepare(1); }
    CHECK_NOTHROW(forward());
    {
        const bool fails = std::exchange(host.gate_fails, true);
        CHECK(error_of(forward).code == ErrorCode::range);
        host.gate_fails = fails;
    }
    CHECK_NOTHROW(forward());
    CHECK(error_of([&] { (void)host.prepare(0); }).code == ErrorCode::range);
    CHECK_NOTHROW(forward());
}

TEST_CASE("a pass moves between callbacks of a host; what is left of it runs nothing", "[phases]") {
    Host host;
    std::optional<decltype(host.prepare(1))> kept;
    kept.emplace(host.prepare(2));
    run_all(*kept, 0, 2, 2);
    auto moved = std::move(*kept);
    const auto error = error_of([&] { kept->run_phase(Phase::plan, 0, 1); });  // NOLINT: that is what is tested
    CHECK(error.code == ErrorCode::state);
    CHECK_THAT(error.text, contains("moved from"));
    kept.reset();  // which does not free the workspace of the other
    CHECK(error_of([&] { host.workspace.reserve(1); }).code == ErrorCode::state);
    run_all(moved, 2, 4, 2);
    kept.emplace(std::move(moved));
    run_all(*kept, 4, 5, 2);
    CHECK(moe_test::same_bits(host.y, host.expected()));
    kept.emplace(host.prepare(2));
    *kept = std::move(*kept.operator->());  // NOLINT: onto itself
    kept.emplace(std::move(*kept));
    SUCCEED("moves of a pass onto itself end");
}

TEST_CASE("a failure is told to every worker, as a status without exceptions", "[phases]") {
    for (const bool foreign : {false, true}) {
        Host host(foreign);
        host.gate_fails = true;
        auto pass = host.prepare(2);
        static_assert(noexcept(pass.try_run_phase(Phase::logits, 0, 2)));
        CHECK(pass.try_run_phase(Phase::logits, 0, 2).ok);
        CHECK(pass.try_run_phase(Phase::logits, 1, 2));
        const moe::PhaseStatus failed = pass.try_run_phase(Phase::gating, 0, 2);
        CHECK_FALSE(failed);
        CHECK(failed.code == (foreign ? ErrorCode::foreign : ErrorCode::range));
        CHECK_THAT(std::string(failed.message.data()), contains("not today"));
        for (const Phase phase : {Phase::gating, Phase::plan, Phase::hidden, Phase::output}) {
            const moe::PhaseStatus status = pass.try_run_phase(phase, 1, 2);
            CHECK_FALSE(status);
            CHECK(status.code == failed.code);
            CHECK_THAT(std::string(status.message.data()), contains("the pass is over") && contains("not today"));
            const auto error = error_of([&] { pass.run_phase(phase, 1, 2); });
            CHECK(error.code == failed.code);
            CHECK_THAT(error.text, contains("not today"));
        }
        CHECK(host.y == std::vector<float>(n * d, 7.0F));
    }
}

TEST_CASE("a status keeps what fits of a long message, and an order that cannot be", "[phases]") {
    Host host;
    auto pass = host.prepare(1);
    const moe::PhaseStatus status = pass.try_run_phase(Phase::output, 0, 1);
    CHECK(status.code == ErrorCode::state);
    const moe::PhaseStatus cut = moe::PhaseStatus::failed(ErrorCode::range, std::string(1000, 'x'));
    CHECK(std::string(cut.message.data()) == std::string(cut.message.size() - 1, 'x'));
    run_all(pass, 0, moe::n_phases, 1);  // a phase out of order is refused and spoils nothing
    CHECK(moe_test::same_bits(host.y, host.expected()));
}

TEST_CASE("executors that leave workers out or run one twice are named", "[phases]") {
    struct Some {
        std::vector<std::size_t> workers;
        static std::size_t concurrency() { return 3; }
        void run(moe::ParallelWork work) const {
            for (const std::size_t ith : workers) {
                work(ith, 3);
            }
        }
    };
    Host host;
    moe_test::LayerShape large = shape();
    large.d_model = 96;
    large.d_ff = 96;
    const moe_test::LayerCase<float> layer_case(large, 5);
    const auto layer = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    constexpr std::size_t n_tokens = 200;
    moe_test::Draw draw(2);
    const auto x = moe_test::random_elements<float>(draw, n_tokens * 96, 1);
    std::vector<float> y(x.size());
    const auto forward = [&](const Some& executor) {
        layer.forward(moe::view(x.data(), n_tokens, 96), moe::view(y.data(), n_tokens, 96), host.workspace, executor);
    };
    CHECK_NOTHROW(forward({{0, 1, 2}}));
    for (const std::vector<std::size_t>& workers : {std::vector<std::size_t>{}, {1, 2}, {0}, {0, 1}}) {
        const auto error = error_of([&] { forward({workers}); });
        CHECK(error.code == (workers.empty() ? ErrorCode::missing : ErrorCode::state));
        CHECK_THAT(error.text, contains("executor"));
    }
    const auto error = error_of([&] { forward({{0, 0, 1}}); });
    CHECK(error.code == ErrorCode::state);
    CHECK_THAT(error.text, contains("worker 0"));
    CHECK_NOTHROW(forward({{2, 1, 0}}));
}

}  // namespace moe_test::wrong_drive_test
