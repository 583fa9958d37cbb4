#include "moe/experts/experts_ref.hpp"

#include <vector>

#include "experts/bank_runner.hpp"
#include "moe/experts/packed_experts.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::experts_ref_test {

namespace {

template <class Source>
void check_facts(const Source& source) {
    using T = typename Source::value_type;
    const moe::ExpertsRef<T> ref(source);
    CHECK(ref.n_experts() == source.n_experts());
    CHECK(ref.layout().d_model == source.layout().d_model);
    CHECK(ref.layout().d_ff == source.layout().d_ff);
    CHECK(ref.layout().gated == source.layout().gated);
    CHECK(ref.hidden_stride() == source.activations().hidden_stride(source.layout()));
    CHECK(ref.input_stride() == source.activations().input_stride(source.layout()));
}

}  // namespace

TEST_CASE("experts by reference have the facts and the bits of their bank, whatever it stores", "[experts_ref]") {
    LayerShape shape;
    shape.n_experts = 3;
    shape.d_model = 45;
    shape.d_ff = 70;
    shape.biases = true;
    const LayerCase<float> layer_case(shape, 21);
    const auto bank = layer_case.bank();
    const moe::PackedExperts<float, moe::AnyForm> packed(bank);
    const moe::PackedExperts<moe::Int8, moe::AnyForm> integers(bank, moe::SerialExecutor{}, moe::Compute::int8);
    check_facts(bank);
    check_facts(packed);
    check_facts(integers);
    CHECK(moe::ExpertsRef<float>(integers).input_stride() > 0);

    Draw draw(22);
    const std::vector<float> x = random_elements<float>(draw, 7 * shape.d_model, 1);
    const std::vector<float> y = run_all(moe::ExpertsRef<float>(bank), x);
    CHECK(same_bits(run_all(moe::ExpertsRef<float>(packed), x), y));
    CHECK(nmse(run_all(moe::ExpertsRef<float>(integers), x), y) < 1e-3);
    CHECK(!same_bits(run_all(moe::ExpertsRef<float>(integers), x), y));
}

TEST_CASE("a reference to no experts is empty", "[experts_ref]") {
    const moe::ExpertsRef<double> none;
    CHECK(none.n_experts() == 0);
    CHECK(none.layout().d_model == 0);
    CHECK(none.hidden_stride() == 0);
}

}  // namespace moe_test::experts_ref_test
