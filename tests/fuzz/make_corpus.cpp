#include <moe/io.hpp>
#include <moe/stats.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

// Makes the files the fuzzers begin with: make_corpus FOLDER writes them, make_corpus FOLDER --check says which of them
// are not in the folder or are others.

namespace {

using Bytes = std::vector<std::byte>;

void append(Bytes& bytes, std::span<const std::byte> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

template <class Number>
void append_numbers(Bytes& bytes, const std::vector<Number>& numbers) {
    append(bytes, std::as_bytes(std::span(numbers)));
}

/// 0, 1, 2, ...
Bytes counted(std::size_t size) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>(i & 0xFFU);
    }
    return bytes;
}

class Corpus {
public:
    Corpus(std::string folder, bool check) : folder_(std::move(folder)), check_(check) {}

    void add(const std::string& target, const std::string& name, const Bytes& bytes) {
        const std::filesystem::path path = std::filesystem::path(folder_) / target / name;
        if (check_) {
            std::ifstream stream(path, std::ios::binary);
            const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
            if (text.size() != bytes.size() ||
                !std::equal(text.begin(), text.end(), bytes.begin(),
                            [](char a, std::byte b) { return static_cast<std::byte>(a) == b; })) {
                (void)std::printf("%s is not what make_corpus makes\n", path.string().c_str());
                ++differing_;
            }
            return;
        }
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }

    [[nodiscard]] int differing() const noexcept { return differing_; }

private:
    std::string folder_;
    bool check_;
    int differing_ = 0;
};

Bytes safetensors_of(const std::string& header, std::size_t data_bytes) {
    Bytes bytes;
    append_numbers<std::uint64_t>(bytes, {header.size()});
    append(bytes, std::as_bytes(std::span(header)));
    append(bytes, counted(data_bytes));
    return bytes;
}

void add_safetensors(Corpus& corpus) {
    const Bytes data = counted(48);
    const std::span<const std::byte> all = data;
    const std::vector<moe::TensorToWrite> types{
        {"f", moe::DType::f32, {2, 3}, all.first(24)}, {"d", moe::DType::f64, {1, 2}, all.first(16)},
        {"b", moe::DType::bf16, {5}, all.first(10)},   {"h", moe::DType::f16, {}, all.first(2)},
        {"i", moe::DType::i64, {3, 1}, all.first(24)}, {"e", moe::DType::f8_e4m3, {0, 7}, {}}};
    corpus.add("safetensors", "types", moe::safetensors_bytes(types, {{"format", "pt"}, {"\"\\\n", "\xE2\x82\xAC"}}));
    corpus.add("safetensors", "empty", moe::safetensors_bytes({}));
    const std::string field = R"("dtype":"U8","shape":[2],"data_offsets":)";
    corpus.add("safetensors", "any_order",
               safetensors_of("{\"b\": {" + field + "[2,4]} ,\"a\":{" + field + "[0, 2]}}  ", 4));
    corpus.add("safetensors", "lenient",
               safetensors_of(R"({"a":{"x":[1,-2.5e3,"s",true,null,{"y":[]}],)" + field + "[0,2]}}", 5));
    corpus.add("safetensors", "escapes",
               safetensors_of(R"({"__metadata__":{"":"\u0041\uD83D\uDE00"},"\u00e9\u0000":{)" + field + "[0,2]}}", 2));
    corpus.add("safetensors", "refused_overlap",
               safetensors_of("{\"a\":{" + field + "[0,2]},\"b\":{" + field + "[1,3]}}", 3));
    corpus.add("safetensors", "refused_hole",
               safetensors_of("{\"a\":{" + field + "[0,2]},\"b\":{" + field + "[3,5]}}", 5));
}

void add_gguf(Corpus& corpus) {
    const std::vector<moe::GgufValueToWrite> values{
        {"general.architecture", std::string("llama")},
        {"u8", std::uint8_t{1}},
        {"i8", std::int8_t{-1}},
        {"u16", std::uint16_t{2}},
        {"i16", std::int16_t{-2}},
        {"u32", std::uint32_t{3}},
        {"i32", std::int32_t{-3}},
        {"f32", 0.5F},
        {"yes", true},
        {"u64", std::uint64_t{4}},
        {"i64", std::int64_t{-4}},
        {"f64", 0.25},
    };
    corpus.add("gguf", "values", moe::gguf_bytes({}, values));
    const std::vector<moe::GgufValueToWrite> arrays{
        {"strings", std::vector<std::string>{"a", "", "bc"}},
        {"bools", std::vector<bool>{true, false}},
        {"floats", std::vector<float>{1.5F}},
        {"integers", std::vector<std::int32_t>{-1, 2}},
        {"none", std::vector<std::uint64_t>{}},
        {"general.alignment", std::uint32_t{64}},
    };
    const Bytes data = counted(256);
    const std::span<const std::byte> all = data;
    const auto type = [](const char* name) { return moe::find_block_type(name); };
    const std::vector<moe::GgufTensorToWrite> few{{"a", type("F32"), {2, 3}, all.first(24)},
                                                  {"b", type("Q8_0"), {2, 1, 32}, all.first(68)},
                                                  {"c", type("F16"), {}, all.first(2)},
                                                  {"d", type("I8"), {0, 3}, {}}};
    corpus.add("gguf", "aligned", moe::gguf_bytes(few, arrays));
    for (const char* name : {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
                             "MXFP4", "NVFP4", "BF16"}) {
        const moe::BlockType* const block = type(name);
        const std::vector<moe::GgufTensorToWrite> one{
            {"blk.0.ffn_up_exps.weight", block, {1, block->block_values}, all.first(block->block_bytes)}};
        corpus.add("gguf", name, moe::gguf_bytes(one));
    }
    corpus.add("gguf", "empty", moe::gguf_bytes({}));
    // the last 32 in the file, whose data are 0 to 31, is the offset of b
    const std::vector<moe::GgufTensorToWrite> two{{"a", type("I8"), {32}, all.first(32)},
                                                  {"b", type("I8"), {}, all.first(1)}};
    Bytes overlap = moe::gguf_bytes(two);
    *std::find(overlap.rbegin(), overlap.rend(), std::byte{32}) = std::byte{0};
    corpus.add("gguf", "refused_overlap", overlap);
}

/// What the target makes a whole file of: the header but for its zeros, and the first of the data.
template <class F, class Form>
Bytes abridged(const Form& form, std::size_t n_experts, std::size_t d_model, std::size_t d_ff,
               std::uint32_t version = moe::detail::PackedHeader::of_together) {
    moe::detail::PackedHeader header;
    header.version = version;
    header.format = static_cast<std::uint32_t>(moe::stored_format<F>);
    header.panel_width = moe::detail::stored_panel_width<F>;
    header.group = moe::detail::stored_group<F>;
    header.gated = form.gated() ? 1 : 0;
    header.d_model = d_model;
    header.d_ff = d_ff;
    header.n_experts = n_experts;
    header.data_bytes = moe::detail::stored_layout<F>(header).bytes();
    const auto bytes = moe::detail::packed_header_bytes(header);
    Bytes result(bytes.begin(), bytes.begin() + moe::detail::PackedHeader::end);
    append(result, Bytes(16, std::byte{0x3C}));
    return result;
}

void add_packed(Corpus& corpus) {
    corpus.add("packed", "float32", abridged<float>(moe::Plain<moe::Gelu>{}, 1, 1, 1));
    corpus.add("packed", "float64", abridged<double>(moe::Plain<moe::Gelu>{}, 1, 2, 1));
    corpus.add("packed", "bfloat16", abridged<moe::bfloat16>(moe::Gated<moe::Silu>{}, 1, 1, 2));
    corpus.add("packed", "float16", abridged<moe::float16>(moe::Plain<moe::Gelu>{}, 1, 3, 1));
    corpus.add("packed", "int8", abridged<moe::Int8>(moe::Plain<moe::Gelu>{}, 1, 1, 1));
    corpus.add("packed", "apart",
               abridged<moe::Int8>(moe::Plain<moe::Gelu>{}, 1, 1, 1, moe::detail::PackedHeader::of_apart));
    Bytes less = abridged<float>(moe::Plain<moe::Gelu>{}, 1, 1, 1);
    less[40] = std::byte{64};  // of d_ff
    corpus.add("packed", "refused_size", less);
    corpus.add("packed", "int4", abridged<moe::Int4>(moe::Plain<moe::Gelu>{}, 1, 1, 1));
}

template <class T>
const moe::RoutingPlan<T>& plan_of(moe::RoutingPlan<T>& plan, const std::vector<moe::ExpertId>& ids,
                                   const std::vector<T>& weights, std::size_t rows, std::size_t cols,
                                   std::size_t n_experts) {
    plan.assign(moe::view(ids.data(), rows, cols), moe::view(weights.data(), rows, cols), n_experts);
    return plan;
}

template <class T>
Bytes trace_of(std::size_t n_experts) {
    moe::TraceWriter<T> writer(n_experts);
    const auto last = static_cast<moe::ExpertId>(n_experts - 1);
    const std::vector<moe::ExpertId> ids{0, last, last, moe::no_expert, moe::no_expert, moe::no_expert};
    const std::vector<T> weights{T(0.25), T(0.75), std::numeric_limits<T>::quiet_NaN(), 0, 0, 0};
    moe::RoutingPlan<T> plan;
    writer.append(plan_of(plan, ids, weights, 3, 2, n_experts));
    writer.append(plan_of(plan, ids, weights, 0, 2, n_experts));
    writer.append(plan_of(plan, ids, weights, 1, 3, n_experts));
    return {writer.bytes().begin(), writer.bytes().end()};
}

void add_traces(Corpus& corpus) {
    corpus.add("trace", "float_3", trace_of<float>(3));
    corpus.add("trace", "double_3", trace_of<double>(3));
    corpus.add("trace", "float_300", trace_of<float>(300));
    Bytes expert = trace_of<float>(3);
    expert[20] = std::byte{2};  // of how many it is
    corpus.add("trace", "refused_expert", expert);
    corpus.add("trace", "float_70000", trace_of<float>(70000));
}

/// `missing` of the columns of lora_B are not there.
template <class T>
Bytes peft_of(const moe::PeftTarget& target, std::size_t rank, std::size_t missing = 0) {
    const bool swapped = target.side == moe::PeftSide::outputs;
    const std::size_t ranks = target.n_experts * rank;
    const std::size_t a_width = swapped ? target.outputs : target.inputs;
    const std::size_t b_width = swapped ? target.inputs : target.outputs;
    const Bytes a = counted(ranks * a_width * sizeof(T));
    const Bytes b = counted((ranks - missing) * b_width * sizeof(T));
    const std::vector<moe::TensorToWrite> tensors{{"p.lora_A.weight", moe::dtype_of<T>, {ranks, a_width}, a},
                                                  {"p.lora_B.weight", moe::dtype_of<T>, {b_width, ranks - missing}, b}};
    Bytes bytes;
    append_numbers<std::uint8_t>(
        bytes, {static_cast<std::uint8_t>(target.n_experts), static_cast<std::uint8_t>(target.outputs),
                static_cast<std::uint8_t>(target.inputs), swapped ? std::uint8_t{1} : std::uint8_t{0}});
    append(bytes, moe::safetensors_bytes(tensors));
    return bytes;
}

void add_peft(Corpus& corpus) {
    corpus.add("peft", "inputs", peft_of<float>({2, 3, 4, moe::PeftSide::inputs}, 2));
    corpus.add("peft", "outputs", peft_of<float>({2, 3, 4, moe::PeftSide::outputs}, 1));
    corpus.add("peft", "bfloat16", peft_of<moe::bfloat16>({3, 5, 2, moe::PeftSide::inputs}, 1));
    corpus.add("peft", "float16", peft_of<moe::float16>({1, 2, 2, moe::PeftSide::outputs}, 3));
    corpus.add("peft", "refused_rank", peft_of<float>({2, 3, 4, moe::PeftSide::inputs}, 1, 1));
    corpus.add("peft", "float64", peft_of<double>({1, 2, 3, moe::PeftSide::inputs}, 1));
}

void add_plans(Corpus& corpus) {
    const auto head = [](std::uint16_t n_experts, std::uint8_t width, std::uint8_t way) {
        Bytes bytes;
        append_numbers<std::uint16_t>(bytes, {n_experts});
        append_numbers<std::uint8_t>(bytes, {width, way});
        return bytes;
    };
    Bytes made = head(4, 2, 0);
    append_numbers<std::int32_t>(made, {0, 3, 3, -1, -1, -1, 1, 0, 2, 2});
    corpus.add("plan", "made", made);
    Bytes one = head(1, 1, 0);
    append_numbers<std::int32_t>(one, {0, 0, -1});
    corpus.add("plan", "one_expert", one);
    Bytes copied = head(3, 2, 1);  // tokens 0: experts 1, 0; 1: expert 1
    append_numbers<std::uint8_t>(copied, {3});
    append_numbers<std::uint32_t>(copied, {0, 2, 3, /**/ 1, 0, 1, /**/ 0, 1, 3, 3, /**/ 0, 0, 1, /**/ 1, 0, 2});
    corpus.add("plan", "copied", copied);
    Bytes order = head(1, 2, 1);  // tokens 0 and 1: expert 0, which has them the other way round
    append_numbers<std::uint8_t>(order, {2});
    append_numbers<std::uint32_t>(order, {0, 1, 2, /**/ 0, 0, /**/ 0, 2, /**/ 1, 0, /**/ 1, 0});
    corpus.add("plan", "refused_order", order);
    Bytes none = head(0, 0, 1);
    append_numbers<std::uint8_t>(none, {0});
    append_numbers<std::uint32_t>(none, {0, 0});
    corpus.add("plan", "copied_empty", none);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        (void)std::fprintf(stderr, "usage: make_corpus FOLDER [--check]\n");
        return 2;
    }
    Corpus corpus(argv[1], argc > 2 && std::strcmp(argv[2], "--check") == 0);
    add_safetensors(corpus);
    add_gguf(corpus);
    add_packed(corpus);
    add_traces(corpus);
    add_peft(corpus);
    add_plans(corpus);
    return corpus.differing() == 0 ? 0 : 1;
}
