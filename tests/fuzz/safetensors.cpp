#include <moe/io/safetensors.hpp>
#include <moe/io/safetensors_writer.hpp>

#include <optional>
#include <vector>

#include "fuzz/support.hpp"

namespace {

using moe::SafetensorsFile;
using moe::TensorView;
using namespace moe_test::fuzz;

bool same(const TensorView& a, const TensorView& b) {
    return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && same_bits(a.bytes, b.bytes);
}

void check_tensor(const SafetensorsFile& file, const TensorView& tensor, Input input) {
    confirm(lies_in(tensor.bytes, input), "the bytes of a tensor lie in the file");
    confirm(file.find(tensor.name) == &tensor, "a tensor is found by its name");
    std::size_t elements = 1;
    for (const std::size_t extent : tensor.shape) {
        elements *= extent;
    }
    confirm(tensor.element_count() == elements, "a tensor has the elements of its shape");
    confirm(tensor.bytes.size() == elements * moe::dtype_size(tensor.dtype), "a tensor has the bytes of its type");
    if (accepted([&] { (void)tensor.data_as<float>(); })) {
        const std::vector<float> values = tensor.to_vector<float>();
        confirm(same_bits<float>(values, tensor.to_float_vector()), "floats are what they are stored as");
    }
    std::vector<double> values;
    if (accepted([&] { values = tensor.to_double_vector(); })) {
        confirm(values.size() == elements, "all elements are converted");
    }
}

/// What was read is written and read once more.
void check_rewritten(const SafetensorsFile& file) {
    std::vector<moe::TensorToWrite> tensors;
    for (const TensorView& tensor : file.tensors()) {
        tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes});
    }
    const std::vector<std::byte> bytes = moe::safetensors_bytes(tensors, file.metadata());
    const SafetensorsFile again = SafetensorsFile::parse(bytes);
    confirm(again.tensors().size() == tensors.size() && again.metadata() == file.metadata(),
            "a file written has the tensors and metadata it was given");
    for (const TensorView& tensor : file.tensors()) {
        confirm(same(again.at(tensor.name), tensor), "a tensor written is read as it was");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Input input = input_of(data, size);
    const auto strict = parsed<SafetensorsFile>(input, moe::Strictness::strict);
    const auto lenient = parsed<SafetensorsFile>(input, moe::Strictness::lenient);
    if (lenient) {
        taken = true;
        std::vector<Input> parts;
        for (const TensorView& tensor : lenient->tensors()) {
            check_tensor(*lenient, tensor, input);
            parts.push_back(tensor.bytes);
        }
        confirm(disjoint(parts), "tensors do not overlap");
        check_rewritten(*lenient);
    }
    if (strict) {
        confirm(lenient && lenient->metadata() == strict->metadata() &&
                    std::ranges::equal(lenient->tensors(), strict->tensors(), same),
                "lenient reading takes all that strict reading takes");
    }
    return 0;
}
