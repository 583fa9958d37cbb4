#include "moe/layer/describe.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "moe/gating/strategies/hash.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/computes.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::describe_test {

namespace {

using moe::Compute;
using moe::LayerDescription;
using moe::ProductDescription;
using moe_test::contains;

moe_test::LayerShape shape_with_shared() {
    moe_test::LayerShape shape;
    shape.shared_widths = {8, 16};
    shape.shared_mode = moe::SharedMode::gated;
    return shape;
}

template <class W>
auto simple_layer(const moe_test::LayerCase<W>& layer_case) {
    return layer_case.layer(moe::TokenChoice<>{.top_k = 2});
}

/// A source of weights that is none of the library's.
struct OwnSource {
    using Bank = moe::ExpertBank<float, moe::AnyForm>;
    using element_type = float;
    using value_type = float;
    using form_type = moe::AnyForm;

    Bank bank;

    [[nodiscard]] std::size_t n_experts() const { return bank.n_experts(); }
    [[nodiscard]] moe::PanelLayout<float> layout() const { return bank.layout(); }
    [[nodiscard]] moe::AnyForm form() const { return bank.form(); }
    [[nodiscard]] moe::ActivationFormat<float> activations() const { return {}; }
    void multiply_hidden(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        bank.multiply_hidden(e, panels, rows, scratch);
    }
    void multiply_output(std::size_t e, moe::PanelRange panels, moe::RowPointers rows,
                         const moe::PanelScratch<float>& scratch) const {
        bank.multiply_output(e, panels, rows, scratch);
    }
    void hidden_bias(std::size_t e, std::size_t panel, float* row) const { bank.hidden_bias(e, panel, row); }
    void output_bias(std::size_t e, std::size_t panel, float* row) const { bank.output_bias(e, panel, row); }
};

/// Tiles of the float kernel.
template <class T>
void check_float_tile(const ProductDescription& product) {
    CHECK(product.present());
    CHECK(product.tile_rows == moe::Panel<T>::tile_rows);
    CHECK(product.tile_vectors == moe::tile_vectors<T>(moe::Panel<T>::tile_rows));
    CHECK(product.lanes == moe::lanes<T>);
    CHECK(product.kernel == (std::is_same_v<T, double> ? "float64 multiply-add" : "float32 multiply-add"));
}

void check_integer_tile(const ProductDescription& product) {
    CHECK(product.tile_rows == moe::Panel<float>::tile_rows);
    CHECK(product.lanes == moe::arch::IntegerLanes::size);
    CHECK(product.tile_vectors >= 1);
    CHECK(product.tile_vectors * product.lanes <= moe::Panel<float>::width);
    CHECK(product.kernel == std::string("integer dot products, ") + moe::arch::IntegerLanes::name);
    CHECK_THAT(product.reason, contains("activations are quantised in groups of 32"));
}

/// What is said of packed weights of type W in this instruction set.
template <class W>
std::string packed_reason(const std::string& name) {
    if (std::is_floating_point_v<W>) {
        return "used as packed";
    }
    return moe::loads_converted<W> ? "converted in registers up to 24 rows, once per block beyond"
                                   : "this instruction set has no conversion of " + name;
}

template <class W>
void check_storage_type(const std::string& name) {
    INFO(name);
    using T = moe::ComputeType<W>;
    const moe_test::LayerCase<W> layer_case(shape_with_shared(), 1);
    const auto layer = simple_layer(layer_case);
    const LayerDescription views = layer.describe();
    CHECK(views.isa == moe::isa_name());
    for (const ProductDescription* product :
         {&views.router, &views.hidden, &views.output, &views.shared, &views.shared_gate}) {
        check_float_tile<T>(*product);
        CHECK(product->weights == name + " views");
        CHECK_THAT(product->reason, contains("pack the layer"));
    }
    const LayerDescription packed = moe::describe(moe::pack(layer));
    for (const ProductDescription* product :
         {&packed.router, &packed.hidden, &packed.output, &packed.shared, &packed.shared_gate}) {
        check_float_tile<T>(*product);
        CHECK(product->weights == "packed " + name);
        CHECK_THAT(product->reason, contains(packed_reason<W>(name)));
    }
}

template <class F>
void check_quantized(const std::string& name) {
    INFO(name);
    const moe_test::LayerCase<float> layer_case(shape_with_shared(), 1);
    const auto layer = simple_layer(layer_case);
    const LayerDescription exact = moe::pack<F>(layer, moe::SerialExecutor{}, Compute::exact).describe();
    const LayerDescription integer = moe::pack<F>(layer, moe::SerialExecutor{}, Compute::int8).describe();
    for (const ProductDescription* product : {&exact.hidden, &exact.output, &exact.shared}) {
        check_float_tile<float>(*product);
        CHECK(product->weights == "packed " + name);
        CHECK(product->reason == name + " dequantised to float32, in registers up to 6 rows, once per block beyond");
    }
    for (const ProductDescription* product : {&integer.hidden, &integer.output, &integer.shared}) {
        check_integer_tile(*product);
        CHECK(product->weights == "packed " + name + " codes");
        CHECK((product->reason.find("taken apart") != std::string::npos) == (name == "Int4"));
    }
    for (const LayerDescription* description : {&exact, &integer}) {
        check_float_tile<float>(description->router);
        CHECK(description->router.weights == "packed float32");
    }
}

}  // namespace

TEST_CASE("a layer tells the kernel of each product in every storage type", "[describe]") {
    check_storage_type<float>("float32");
    check_storage_type<double>("float64");
    check_storage_type<moe::bfloat16>("bfloat16");
    check_storage_type<moe::float16>("float16");
}

TEST_CASE("a layer tells the kernel of quantised experts in both ways to compute", "[describe]") {
    check_quantized<moe::Int8>("Int8");
    check_quantized<moe::Int4>("Int4");
}

TEST_CASE("a layer tells that it multiplies bfloat16", "[describe]") {
    if (!moe_test::has_compute<moe::float16>(Compute::bf16)) {
        return;
    }
    const moe_test::LayerCase<float> layer_case(shape_with_shared(), 1);
    const auto packed = moe::pack<moe::float16>(simple_layer(layer_case), moe::SerialExecutor{}, Compute::bf16);
    const LayerDescription description = packed.describe();
    const bool on_unit = moe::arch::MatrixUnit::present;
    for (const ProductDescription* product : {&description.hidden, &description.output, &description.shared}) {
        CHECK(product->kernel == (on_unit ? "bfloat16 matrix unit (AMX)" : "bfloat16 pair products, AVX512-BF16"));
        CHECK(product->weights == "packed float16");
        CHECK(product->tile_vectors * product->lanes == moe::Panel<float>::width);
        CHECK(product->reason == "activations and weights are rounded to bfloat16");
    }
}

TEST_CASE("a layer tells that it uses the matrix unit", "[describe]") {
    if (!moe::arch::MatrixUnit::request()) {
        return;
    }
    const moe_test::LayerCase<float> layer_case(shape_with_shared(), 1);
    const auto packed = moe::pack<moe::bfloat16>(simple_layer(layer_case), moe::SerialExecutor{}, Compute::bf16x3);
    const LayerDescription description = packed.describe();
    for (const ProductDescription* product : {&description.hidden, &description.output, &description.shared}) {
        CHECK(product->kernel == "bfloat16 matrix unit (AMX)");
        CHECK(product->weights == "packed bfloat16");
        CHECK(product->tile_rows == 16);
        CHECK(product->tile_vectors * product->lanes == moe::Panel<float>::width);
        CHECK_THAT(product->reason, contains("three bfloat16"));
    }
}

TEST_CASE("the name of the integer kernel is that of the instruction set", "[describe]") {
    const moe_test::LayerCase<float> layer_case(shape_with_shared(), 1);
    const auto packed = moe::pack<moe::Int8>(simple_layer(layer_case), moe::SerialExecutor{}, Compute::int8);
    const ProductDescription hidden = packed.describe().hidden;
#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
    CHECK(hidden.kernel == "integer dot products, AVX-512 VNNI");
#elif defined(__AVX512BW__)
    CHECK(hidden.kernel == "integer dot products, AVX-512 BW");
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
    CHECK(hidden.kernel == "integer dot products, AVX2");
#elif !defined(__ARM_FEATURE_DOTPROD)
    CHECK(hidden.kernel == "integer dot products, plain integers");
    CHECK_THAT(hidden.reason, contains("no kernel for integer products"));
#else
    CHECK(hidden.kernel == "integer dot products, NEON dot product");
#endif
}

TEST_CASE("products that are not there are said not to be", "[describe]") {
    const moe_test::LayerCase<float> layer_case(moe_test::LayerShape{}, 1);
    const LayerDescription description = simple_layer(layer_case).describe();
    CHECK_FALSE(description.shared.present());
    CHECK(description.shared.text() == "none; there are no shared experts");
    CHECK_FALSE(description.shared_gate.present());

    const std::vector<std::int32_t> table(10);
    moe::Hash<> gate;
    gate.table = moe::view(table.data(), 10, 1);
    const moe::MoELayer hashed{moe::Router{4, gate}, layer_case.bank()};
    CHECK_FALSE(hashed.describe().router.present());
    CHECK(hashed.describe().router.text() == "none; the gate reads no logits");
}

TEST_CASE("a source of weights from outside the library is called that", "[describe]") {
    const moe_test::LayerCase<float> layer_case(moe_test::LayerShape{}, 1);
    const moe::MoELayer layer{layer_case.router(moe::TokenChoice<>{.top_k = 2}), OwnSource{layer_case.bank()}};
    CHECK(layer.describe().hidden.weights == "a source of the user's");
    CHECK(layer.describe().router.weights == "float32 views");
}

TEST_CASE("a description as text has a line for each product", "[describe]") {
    const moe_test::LayerCase<float> layer_case(shape_with_shared(), 1);
    const LayerDescription description = moe::pack(simple_layer(layer_case)).describe();
    const std::string tiles = "tiles of 6 rows x " + std::to_string(description.hidden.tile_vectors) + " vectors of " +
                              std::to_string(moe::lanes<float>);
    CHECK(description.hidden.text() == "packed float32: float32 multiply-add, " + tiles + "; used as packed");
    CHECK_THAT(description.text(), contains(std::string("instruction set: ") + moe::isa_name() + "\n"));
    for (const char* name :
         {"\nrouter: packed", "\nhidden: packed", "\noutput: packed", "\nshared: packed", "\nshared gate: "}) {
        CHECK_THAT(description.text(), contains(name));
    }
}

}  // namespace moe_test::describe_test
