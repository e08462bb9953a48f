#include "bind.h"

#include <dlfcn.h>

#include "memory.h"
#include "session.h"
#include "trace.h"

namespace py = pybind11;

namespace emulator {

namespace {

uintptr_t module_base() {
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&bind), &self);
  return reinterpret_cast<uintptr_t>(self.dli_fbase);
}

uintptr_t offset(const void* pc) { return reinterpret_cast<uintptr_t>(pc) - module_base(); }

void begin(uint64_t seed, double preempt, bool traced, int resident, int multiprocessors,
           int blocks_per_multiprocessor) {
  buffers().clear();
  session().begin({seed, preempt, traced, resident, multiprocessors, blocks_per_multiprocessor});
  begin_trace(traced);
}

void add_buffer(uintptr_t address, size_t size, uint32_t granule, const std::string& name,
                bool writable, bool initialised) {
  Buffer buffer;
  buffer.name = name;
  buffer.base = address;
  buffer.size = size;
  buffer.granule = granule;
  buffer.writable = writable;
  buffer.initialised = initialised;
  register_buffer(std::move(buffer));
}

py::list errors() {
  py::list result;
  for (const Error& error : session().errors) {
    py::list pcs;
    for (const void* pc : error.pcs) pcs.append(offset(pc));
    result.append(py::make_tuple(error.kind, error.text, pcs, error.count));
  }
  return result;
}

py::list launches() {
  py::list result;
  for (const LaunchRecord& l : session().launches) {
    py::dict d;
    d["kernel"] = offset(l.kernel);
    d["grid"] = py::make_tuple(l.grid[0], l.grid[1], l.grid[2]);
    d["block"] = py::make_tuple(l.block[0], l.block[1], l.block[2]);
    d["cooperative"] = l.cooperative;
    d["dynamic_shared"] = l.dynamic_shared;
    result.append(d);
  }
  return result;
}

py::dict traffic() {
  py::dict result;
  for (const Buffer& buffer : buffers()) {
    uint64_t read = 0, written = 0;
    for (uint8_t bits : buffer.sectors) {
      read += bits & 1;
      written += bits >> 1 & 1;
    }
    py::dict d;
    d["bytes_read"] = buffer.bytes_read;
    d["bytes_written"] = buffer.bytes_written;
    d["sectors_read"] = read;
    d["sectors_written"] = written;
    result[py::str(buffer.name)] = d;
  }
  return result;
}

py::list requests() {
  py::list result;
  for (const LineTraffic& line : line_traffic()) {
    result.append(py::make_tuple(offset(line.pc), line.write, line.requests, line.bytes,
                                 line.sectors, line.ideal, line.worst));
  }
  return result;
}

py::dict report() {
  py::dict result;
  result["errors"] = errors();
  result["launches"] = launches();
  result["memsets"] = session().memsets;
  result["buffers"] = traffic();
  result["requests"] = requests();
  return result;
}

}  // namespace

void bind(py::module_& module) {
  module.def("begin", &begin, py::arg("seed"), py::arg("preempt"), py::arg("traced"),
             py::arg("resident"), py::arg("multiprocessors"), py::arg("blocks_per_multiprocessor"));
  module.def("register_buffer", &add_buffer, py::arg("address"), py::arg("size"),
             py::arg("granule"), py::arg("name"), py::arg("writable"), py::arg("initialised"));
  module.def("report", &report);
}

}  // namespace emulator
