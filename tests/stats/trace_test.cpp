#include <moe/stats/trace.hpp>

#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "moe/core/random.hpp"
#include "stats/record.hpp"
#include "stats/trace_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"

namespace moe_test::trace_test {

using moe_test::Bytes;
using moe_test::random_plan;

namespace {

template <class T>
bool same_plan(const moe::PlanView<T>& a, const moe::PlanView<T>& b) {
    const auto same = [](const auto& x, const auto& y) { return std::equal(x.begin(), x.end(), y.begin(), y.end()); };
    return a.n_tokens == b.n_tokens && a.n_experts == b.n_experts && same(a.token_offsets, b.token_offsets) &&
           same(a.experts, b.experts) && moe_test::same_bits(a.weights, b.weights, moe_test::NonFinite::allow) &&
           same(a.expert_offsets, b.expert_offsets) && same(a.tokens, b.tokens) && same(a.assignments, b.assignments);
}

template <class T>
void check_round_trip(std::size_t n_experts) {
    std::vector<moe::RoutingPlan<T>> plans;
    moe::TraceWriter<T> writer(n_experts);
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        plans.push_back(random_plan<T>(seed, n_experts, seed % 5 == 0 ? 0 : seed, seed % 7));
        writer.append(plans.back());
    }
    CHECK(writer.n_plans() == 20);
    moe::TraceReader<T> reader(writer.bytes());
    CHECK(reader.n_experts() == n_experts);
    moe::RoutingPlan<T> plan;
    std::size_t differing = 0;
    for (const moe::RoutingPlan<T>& expected : plans) {
        differing += reader.next(plan) && same_plan(plan.view(), expected.view()) ? 0U : 1U;
    }
    CHECK(differing == 0);
    CHECK(!reader.next(plan));
    CHECK(!reader.next(plan));
    CHECK(same_plan(plan.view(), plans.back().view()));  // left alone
}

}  // namespace

TEST_CASE("plans come back from a trace as they were", "[stats]") {
    for (const std::size_t n_experts : {1U, 3U, 256U, 257U, 65536U, 65537U}) {
        INFO(n_experts << " experts");
        check_round_trip<float>(n_experts);
        check_round_trip<double>(n_experts);
    }
}

TEST_CASE("weights keep their bits, whatever they are", "[stats]") {
    const float inf = std::numeric_limits<float>::infinity();
    const moe_test::HandRecord<float> record(
        2, {{0, 1}, {1, 1}, {0, 0}},
        {{-0.0F, inf}, {std::numeric_limits<float>::quiet_NaN(), 0x1p-149F}, {-inf, 1.1F}});
    moe::TraceWriter<float> writer(2);
    writer.append(record.plan());
    moe::RoutingPlan<float> plan;
    moe::TraceReader<float> reader(writer.bytes());
    CHECK(reader.next(plan));
    CHECK(same_plan(plan.view(), record.plan()));
}

TEST_CASE("a trace has the bytes its description states", "[stats]") {
    const moe_test::HandRecord<float> record(300, {{0x102}, {}, {5, 7}}, {{1}, {}, {-2, 0.5F}});
    moe::TraceWriter<float> writer(300);
    writer.append(record.plan());
    const Bytes expected = moe_test::bytes_of({0x8A, 'm', 'o',  'e',  't', 'r', 13, 10,   1, 0, 0, 0,   4,
                                               3,    2,   1,    1,    0,   0,   0,  0x2C, 1, 0,             // header
                                               0,    3,   0,    0,    0,   3,   0,  0,    0,                // sizes
                                               1,    0,   2,                                                // counts
                                               2,    1,   5,    0,    7,   0,                               // experts
                                               0,    0,   0x80, 0x3F, 0,   0,   0,  0xC0, 0, 0, 0, 0x3F});  // weights
    CHECK(Bytes(writer.bytes().begin(), writer.bytes().end()) == expected);
    // a count of 200 takes two bytes
    moe::TraceWriter<float> wide(1);
    wide.append(random_plan<float>(1, 1, 1, 200));
    CHECK(wide.bytes()[32] == std::byte{0xC8});
    CHECK(wide.bytes()[33] == std::byte{0x01});
    CHECK(wide.bytes().size() == 24 + 8 + 2 + 200 * 5);
    moe::RoutingPlan<float> plan;
    moe::TraceReader<float> reader(wide.bytes());
    CHECK(reader.next(plan));
    CHECK(plan.view().experts_of(0).size() == 200);
}

TEST_CASE("a trace may be drained into a stream as it is written", "[stats]") {
    const auto plan = random_plan<double>(3, 5, 6, 2);
    moe::TraceWriter<double> whole(5);
    moe::TraceWriter<double> parts(5);
    std::ostringstream stream;
    for (int i = 0; i < 3; ++i) {
        whole.append(plan);
        parts.append(plan);
        parts.drain(stream);
        CHECK(parts.bytes().empty());
    }
    CHECK(parts.n_plans() == 3);
    const std::string written = stream.str();
    CHECK(written == std::string(reinterpret_cast<const char*>(whole.bytes().data()), whole.bytes().size()));
}

TEST_CASE("a recorded trace, replayed, gives the forward passes bit for bit", "[stats]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 7);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true});
    moe_test::Draw draw(8);
    moe::Workspace workspace;
    moe::TraceWriter<float> writer(layer.n_experts());
    moe::TraceRecorder<float> recorder(writer);
    moe::ForwardOptions<float> options;
    options.observer = &recorder;
    std::vector<moe_test::Batch<float>> batches;
    for (const std::size_t n_tokens : {30U, 1U, 0U, 9U}) {
        moe_test::Batch<float>& batch = batches.emplace_back(draw, n_tokens, layer.d_model());
        layer.forward(moe::view(std::as_const(batch.x).data(), n_tokens, layer.d_model()),
                      moe::view(batch.y.data(), n_tokens, layer.d_model()), workspace, moe::SerialExecutor{}, options);
    }
    CHECK(writer.n_plans() == 4);
    moe::TraceReader<float> reader(writer.bytes());
    moe::RoutingPlan<float> plan;
    for (moe_test::Batch<float>& batch : batches) {
        const std::vector<float> expected = batch.y;
        std::fill(batch.y.begin(), batch.y.end(), -1.0F);
        REQUIRE(reader.next(plan));
        layer.forward(moe::view(std::as_const(batch.x).data(), batch.n_tokens(), layer.d_model()), plan,
                      moe::view(batch.y.data(), batch.n_tokens(), layer.d_model()), workspace);
        CHECK(moe_test::same_bits(batch.y, expected));
    }
    CHECK(!reader.next(plan));
}

TEST_CASE("TraceWriter refuses what it cannot record, and adds nothing", "[stats]") {
    using Writer = moe::TraceWriter<float>;
    CHECK(moe_test::error_of([] { Writer(0); }).text == "TraceWriter: 0 experts, it must be 1 to 1048576");
    CHECK(moe_test::error_of([] { Writer((std::size_t{1} << 20U) + 1); }).code == moe::ErrorCode::range);
    Writer writer(3);
    const std::size_t before = writer.bytes().size();
    const auto caught = moe_test::error_of([&] { writer.append(random_plan<float>(1, 4, 2, 2)); });
    CHECK(caught.code == moe::ErrorCode::shape);
    CHECK(caught.text == "TraceWriter: a plan of 4 experts, the trace is of 3");
    const auto good = random_plan<float>(1, 3, 2, 2);
    moe::PlanView<float> broken = good;
    broken.weights = broken.weights.first(broken.weights.size() - 1);
    CHECK(moe_test::error_of([&] { writer.append(broken); }).code == moe::ErrorCode::range);
    CHECK(writer.bytes().size() == before);
    CHECK(writer.n_plans() == 0);
}

}  // namespace moe_test::trace_test
